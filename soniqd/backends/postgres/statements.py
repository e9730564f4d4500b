"""The statements of ``sql/*.sql``, loaded once.

A file is a list of sections: a line ``-- name: NAME``, a comment line with the purpose (worded so that "cannot
PURPOSE" reads well), perhaps more comment lines, and the statement.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_SECTION = re.compile(r"^-- name: (\w+)\n-- (.+)\n", re.MULTILINE)
_COMMENT_LINE = re.compile(r"^\s*--.*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement with psycopg's named placeholders; ``text`` is bytes, which psycopg takes as they are."""

    name: str
    purpose: str
    text: bytes


def load_statements(folder: Path) -> dict[str, Statement]:
    """Read every section of every file; a name occurs once."""
    statements: dict[str, Statement] = {}
    for path in sorted(folder.glob("*.sql")):
        for statement in _sections(path.read_text("utf-8")):
            if statement.name in statements:
                raise ValueError(f"cannot load {path.name}: a second statement is named {statement.name}")
            statements[statement.name] = statement
    return statements


def _sections(text: str) -> list[Statement]:
    _, *parts = _SECTION.split(text)
    return [
        Statement(name, purpose, _compact(body))
        for name, purpose, body in zip(parts[0::3], parts[1::3], parts[2::3], strict=True)
    ]


def _compact(body: str) -> bytes:
    """Drop comments and indentation: psycopg caches the conversion of statements up to 4096 bytes only."""
    return " ".join(_COMMENT_LINE.sub("", body).split()).rstrip(";").encode()


SQL = load_statements(Path(__file__).parent / "sql")
