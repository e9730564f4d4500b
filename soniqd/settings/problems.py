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


_LIKENESS = 0.6
"""How much alike two names have to be (difflib's ratio) for one to be a mistyped other."""


def nearest(name: str, known: Iterable[str], *, likeness: float = _LIKENESS) -> str | None:
    """Return the known name that looks most like this one, if any does."""
    by_lower = {one.lower(): one for one in known}
    matches = get_close_matches(name.lower(), by_lower, n=1, cutoff=likeness)
    return by_lower[matches[0]] if matches else None


def did_you_mean(name: object, known: Iterable[str], *, likeness: float = _LIKENESS) -> str:
    """Return what to add to "there is no such X"; nothing if no known name looks like this one."""
    near = nearest(str(name), known, likeness=likeness)
    return f'; did you mean "{near}"?' if near else ""
