"""Arrays as PostgreSQL reads them (manual, section 8.15.6): one text instead of a value each.

psycopg adapts lists value by value, in Python: for the five columns of a batch of outcomes that took longer than all
the rest of writing it. As texts they take a tenth.
"""

from __future__ import annotations

from collections.abc import Iterable


def numbers(values: Iterable[float | None]) -> str:
    """Write numbers."""
    return "{" + ",".join(["NULL" if value is None else repr(value) for value in values]) + "}"


def repeated(value: float, count: int) -> str:
    """Write the same number so many times."""
    return "{" + ",".join([repr(value)] * count) + "}"


def words(values: Iterable[str | None]) -> str:
    """Write texts without anything to quote, such as ids: no comma, brace, quote, backslash, space, and not empty."""
    return "{" + ",".join(["NULL" if value is None else value for value in values]) + "}"


def texts(values: Iterable[str | None]) -> str:
    """Write any texts; what PostgreSQL cannot store is refused when the array is sent."""
    values = tuple(values)
    known = [value for value in values if value is not None]
    if len(known) == len(values):  # all at once, at half the cost: what separates them is in none that can be stored
        joined = "\0".join(known)
        if joined.count("\0") == len(known) - 1:
            return '{"' + joined.replace("\\", "\\\\").replace('"', '\\"').replace("\0", '","') + '"}'
    return "{" + ",".join(["NULL" if value is None else _quoted(value) for value in values]) + "}"


def _quoted(value: str) -> str:
    if "\\" in value:
        value = value.replace("\\", "\\\\")
    return '"' + (value.replace('"', '\\"') if '"' in value else value) + '"'
