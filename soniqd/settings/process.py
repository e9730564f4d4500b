"""Values that the kernel is told about a process: resource limits, CPUs, the file mode mask."""

from __future__ import annotations

import re
import resource
from collections.abc import Mapping
from typing import Annotated

from soniqd.settings.fields import Written
from soniqd.settings.sizes import JSON_SCHEMA as SIZE_SCHEMA
from soniqd.settings.sizes import parse_size

UNLIMITED = -1
"""Of a limit; what :data:`resource.RLIM_INFINITY` is to Python."""

RLIMITS: Mapping[str, int] = {
    name.removeprefix("RLIMIT_").lower(): getattr(resource, name)
    for name in dir(resource)
    if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"  # an old name of NOFILE
}
"""Resource limits by their names in setrlimit(2), in lower case and without RLIMIT_."""

_CPU_RANGE = re.compile(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?")
_MOST_CPUS = 8192
"""What Linux can be built for (CONFIG_NR_CPUS)."""
_UMASK = re.compile(r"0?[0-7]{3}")


def parse_limit(value: object) -> int:
    """Return a resource limit, -1 for none; raises ValueError."""
    if value in ("unlimited", UNLIMITED) and not isinstance(value, bool):
        return UNLIMITED
    try:
        return parse_size(value)
    except ValueError:
        written = f'"{value}"' if isinstance(value, str) else str(value).lower()
        raise ValueError(f'expected a number, a size such as "2GB" or "unlimited", got {written}') from None


def parse_cpus(value: object) -> tuple[int, ...]:
    """Return CPU numbers in order; raises ValueError. ``"0-3,6"`` is the list format of cpuset(7)."""
    try:
        cpus = _listed_cpus(value) if isinstance(value, str) else _counted_cpus(value)
    except ValueError:
        written = f'"{value}"' if isinstance(value, str) else str(value).lower()
        raise ValueError(f'expected CPUs such as "0-3,6" or [0, 1, 2, 3, 6], got {written}') from None
    return tuple(sorted(set(cpus)))


def _listed_cpus(text: str) -> list[int]:
    cpus: list[int] = []
    for part in text.split(",") if text.strip() else ():
        match = _CPU_RANGE.fullmatch(part)
        if match is None:
            raise ValueError
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < _MOST_CPUS:
            raise ValueError
        cpus += range(first, last + 1)
    return cpus


def _counted_cpus(value: object) -> list[int]:
    if not isinstance(value, list | tuple):
        raise ValueError  # noqa: TRY004  what a parser of a setting raises
    if not all(isinstance(cpu, int) and not isinstance(cpu, bool) and 0 <= cpu < _MOST_CPUS for cpu in value):
        raise ValueError
    return list(value)


def parse_umask(value: object) -> str:
    """Return a file mode mask as its octal digits; raises ValueError."""
    if isinstance(value, str) and _UMASK.fullmatch(value):
        return value
    written = f'"{value}"' if isinstance(value, str) else str(value).lower()
    raise ValueError(f'expected the octal digits of a umask as a string, such as "0027", got {written}')


_LIMIT_SCHEMA = {"anyOf": [*SIZE_SCHEMA["anyOf"], {"const": "unlimited"}, {"const": UNLIMITED}]}
_CPUS_SCHEMA = {
    "anyOf": [
        {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": _MOST_CPUS - 1}},
        {"type": "string"},
    ]
}

Limit = Annotated[int, Written(parse_limit, _LIMIT_SCHEMA)]
Cpus = Annotated[tuple[int, ...], Written(parse_cpus, _CPUS_SCHEMA)]
Umask = Annotated[str, Written(parse_umask, {"type": "string", "pattern": "^0?[0-7]{3}$"})]
