"""Turn what is wrong with a configuration into lines for people: where, what was expected, what was found."""

from __future__ import annotations

import json
from collections.abc import Iterable
from difflib import get_close_matches

from soniqd.log.redact import redact

Loc = tuple[str | int, ...]
"""Where a value stands in a document: keys, and indexes of arrays."""

_LONGEST_VALUE = 80


def dotted(loc: Iterable[str | int]) -> str:
    """Write a location as people do: ``workers[1].concurrency``."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def quoted(value: object) -> str:
    """Show a value as it would be written, shortened, without passwords."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = redact(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that looks most like this one, if any does."""
    matches = get_close_matches(name.lower(), tuple(known), n=1, cutoff=0.6)
    return matches[0] if matches else None
