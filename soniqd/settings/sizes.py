"""Sizes as people write them: "512MB" (powers of 1000), "512MiB" (powers of 1024), or a number of bytes."""

from __future__ import annotations

import re
from typing import Annotated

from soniqd.settings.fields import Written

_DECIMAL = {"kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4}
_BINARY = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_UNITS = {"B": 1, **_DECIMAL, **_BINARY}
_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kKMGT]i?B|B)?\s*")
_LARGEST = 2**63 - 1
"""What the kernel can take as a limit (setrlimit(2))."""


def parse_size(value: object) -> int:
    """Return bytes; raises ValueError for anything that is not a size, negative ones included."""
    size: int | float
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _PATTERN.fullmatch(value)) and (match[2] or "B") in _UNITS:
        size = float(match[1]) * _UNITS[match[2] or "B"]
    else:
        raise ValueError(_expected(value))
    if not 0 <= size <= _LARGEST:
        raise ValueError(_expected(value))
    return int(size)


def format_size(size: int) -> str:
    """Write bytes as a person would, so that ``parse_size`` gives them back."""
    for units in (_DECIMAL, _BINARY):
        for unit, factor in reversed(units.items()):
            if unit != "KB" and size >= factor and size % factor == 0:
                return f"{size // factor}{unit}"
    return str(size)


def _expected(value: object) -> str:
    written = f'"{value}"' if isinstance(value, str) else str(value).lower()
    return f'expected a size such as "512MB", "1GiB" or a number of bytes, got {written}'


JSON_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^{_PATTERN.pattern}$"}]}

Size = Annotated[int, Written(parse_size, JSON_SCHEMA)]
"""A setting in bytes that may be written with a unit."""
