"""Durations as people write them: "500ms", "30s", "5m", "2h", "1d", or a number of seconds."""

from __future__ import annotations

import re
import sys
from typing import Annotated

from soniqd.settings.fields import Written

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*")


def parse_duration_s(value: object) -> float:
    """Return seconds; raises ValueError for anything that is not a duration, negative ones included."""
    if isinstance(value, bool):
        raise ValueError(_expected(value))  # noqa: TRY004  what a parser of a setting raises
    if isinstance(value, int | float):
        seconds = value
    elif isinstance(value, str) and (match := _PATTERN.fullmatch(value)):
        seconds = float(match[1]) * _UNITS_S[match[2] or "s"]
    else:
        raise ValueError(_expected(value))
    if not 0 <= seconds <= sys.float_info.max:  # an int may be larger than that
        raise ValueError(_expected(value))
    return float(seconds)


def _expected(value: object) -> str:
    written = f'"{value}"' if isinstance(value, str) else str(value).lower()
    return f'expected a duration such as "500ms", "30s", "5m" or a number of seconds, got {written}'


def format_duration(seconds: float) -> str:
    """Write seconds as a person would, so that ``parse_duration_s`` gives them back."""
    if not seconds:
        return "0s"
    for unit, size_s in reversed(_UNITS_S.items()):
        count = seconds / size_s
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds!r}s"


_JSON_SCHEMA = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": f"^{_PATTERN.pattern}$"}]}

Duration = Annotated[float, Written(parse_duration_s, _JSON_SCHEMA)]
"""A setting in seconds that may be written with a unit."""
