"""Values as people read them."""

from __future__ import annotations

import unicodedata
from datetime import datetime

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
# Control characters, and the formatting characters that turn text around: neither may come from a job's arguments.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(value: object) -> str:
    """Return text that cannot steer a terminal; None is a dash."""
    if value is None:
        return "-"
    text = str(value)
    if text.isprintable():
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in _UNPRINTABLE else c for c in text)


def duration(seconds: float | None) -> str:
    """Write a span with its two biggest units: ``3d 4h``, ``12s``, ``0.4s``."""
    if seconds is None:
        return "-"
    if 0 < seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    parts: list[str] = []
    for size, unit in _UNITS:
        count, whole = divmod(whole, size)
        if count or (parts and len(parts) < 2):
            parts.append(f"{count}{unit}" if count else "")
    return " ".join(part for part in parts[:2] if part) or "0s"


def size(number: int | None) -> str:
    """Write bytes as ``812K``, ``34M``, ``1.2G``."""
    if number is None:
        return "-"
    value, units = number / 1024, iter("KMG")
    unit = next(units)
    while value >= 1000 and unit != "G":
        value, unit = value / 1024, next(units)
    return f"{value:.1f}{unit}" if value < 10 and unit != "K" else f"{value:.0f}{unit}"


def moment(value: datetime | str | None) -> str:
    """Write an instant in local time, to the second."""
    if value is None:
        return "-"
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return printable(value)
    return instant.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def count(number: int, singular: str, plural: str | None = None) -> str:
    """Write a number with its noun."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
