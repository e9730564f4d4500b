"""Turn what is wrong with a configuration into lines for people: where, what was expected, what was found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from soniqd.log.redact import redact

Loc = tuple[str | int, ...]
"""Where a value stands in a document: keys, and indexes of arrays."""

_LONGEST_VALUE = 80

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a string",
    "tuple": "an array",
    "list": "an array",
    "dict": "a table",
    "path": "a path",
    "model": "a table",
}
_BOUNDS = {
    "greater_than_equal": "{ge:g} or more",
    "greater_than": "more than {gt:g}",
    "less_than_equal": "{le:g} or less",
    "less_than": "less than {lt:g}",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_short": "some text",
}


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


def expectation(error: Mapping[str, Any]) -> str:
    """Word one entry of a pydantic ValidationError: what was expected, and what was found."""
    wanted = _wanted(error)
    if wanted is None:
        return redact(str(error["msg"]).removeprefix("Value error, "))
    return f"expected {wanted}, got {quoted(error['input'])}"


def _wanted(error: Mapping[str, Any]) -> str | None:
    context = error.get("ctx", {})
    kind = str(error["type"])
    if kind == "literal_error":
        return f"one of {context['expected']}".replace("'", '"')
    if kind in _BOUNDS:
        return _BOUNDS[kind].format_map(context)
    return _EXPECTED.get(kind.split("_", maxsplit=1)[0])
