"""The SQL of this backend, read from its .sql files.

Each statement stands under a line ``-- :name What it is for.`` Two placeholders are not SQLite's: ``{rows}`` is
replaced by as many rows of parameters as a call has, ``{where}`` by conditions that the caller puts together from
fixed parts.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_HEADING = re.compile(r"^-- :(\w+) (.+)$", re.MULTILINE)


@cache
def statements() -> dict[str, str]:
    """Return every statement by its name."""
    found: dict[str, str] = {}
    for file in sorted((files(__package__) / "sql").iterdir(), key=lambda file: file.name):
        _, *parts = _HEADING.split(file.read_text("utf-8"))
        for name, _purpose, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            assert name not in found, f"two statements are named {name}"
            found[name] = text.strip()
    return found


@cache
def with_rows(name: str, *, rows: int, width: int) -> str:
    """Return a statement with room for ``rows`` rows of ``width`` values."""
    row = "(" + ", ".join("?" * width) + ")"
    return statements()[name].replace("{rows}", ", ".join([row] * rows))


@cache
def migrations() -> dict[str, tuple[str, ...]]:
    """Return each migration's statements by its file stem, in order."""
    folder = files(__package__) / "migrations"
    found = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return {file.name.removesuffix(".sql"): _split(file.read_text("utf-8")) for file in found}


def _split(script: str) -> tuple[str, ...]:
    """Split at semicolons that end a line; migrations are written accordingly."""
    return tuple(part.strip() for part in re.split(r";\s*$", script, flags=re.MULTILINE) if part.strip())
