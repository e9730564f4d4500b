"""Keep database passwords out of everything that people or logs can see.

It rather hides too much than too little: a password with an unescaped ``@`` or ``/`` is not a valid one, and is in
error texts all the same.
"""

from __future__ import annotations

import re

MASK = "***"

_IN_AUTHORITY = re.compile(r"(://[^\s:@/]*:)(?:(?!://)\S)*(@)")
# libpq: "password = 'it''s'", values quoted or up to the next space; in a URL's query up to the next "&".
_ASSIGNED = re.compile(r"(?i)((?:password|passwd)\s*=\s*)(?:'(?:\\.|[^'\\])*'?|\"(?:\\.|[^\"\\])*\"?|[^\s&'\"]+)")
_IN_MAPPING = re.compile(
    r"(?i)(['\"][a-z_]*(?:password|passwd)['\"]\s*:\s*)(?:'(?:\\.|[^'\\])*'?|\"(?:\\.|[^\"\\])*\"?)"
)


def redact(text: str) -> str:
    """Return the text with every password in URLs, conninfo strings and mappings replaced by ``***``."""
    if "://" in text:
        text = _IN_AUTHORITY.sub(rf"\1{MASK}\2", text)
    if "pass" in text.lower():
        text = _ASSIGNED.sub(rf"\1{MASK}", text)
        text = _IN_MAPPING.sub(rf"\1{MASK}", text)
    return text
