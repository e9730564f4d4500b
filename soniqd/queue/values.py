"""Checks of single values that callers pass; each raises ValueError with a reason that completes "cannot X: ..."."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, cast

from soniqd.errors import InvalidTaskNameError
from soniqd.settings.durations import parse_duration_s

LONGEST_NAME = 255
LONGEST_DEDUP_KEY = 1024  # a btree entry of PostgreSQL holds at most a third of a page, 2704 bytes
LONGEST_DELAY_S = 100 * 365.25 * 86400.0
_INT32 = 2**31

Seconds = int | float | timedelta | str
"""A duration: a number of seconds, a timedelta, or text such as "5m"."""


def queue_name(value: Any) -> str:
    """Accept a queue's name."""
    return _short_text("queue", value, LONGEST_NAME)


def stored_task_name(value: Any) -> str:
    """Accept any name that a task of some other program may have."""
    return _short_text("a task's name", value, LONGEST_NAME)


def schedule_name(value: Any) -> str:
    """Accept a schedule's name."""
    return _short_text("a schedule's name", value, LONGEST_NAME)


def dedup_key(value: Any) -> str:
    """Accept a dedup key."""
    return _short_text("dedup_key", value, LONGEST_DEDUP_KEY)


def _short_text(what: str, value: Any, longest: int) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} must be a str, not {value!r}")  # noqa: TRY004  callers turn ValueError into their own
    if not value or "\x00" in value:
        raise ValueError(f"{what} must be text without NUL characters, not {value!r}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be Unicode text, not {value!r}") from None
    if size > longest:
        raise ValueError(f"{what} must not be longer than {longest} bytes, {value[:40]!r}... is")
    return value


def priority(value: Any) -> int:
    """Accept a priority; lower ones run first."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"priority must be an int, not {value!r}")  # noqa: TRY004
    if not -_INT32 <= value < _INT32:
        raise ValueError(f"priority must fit 32 bits, not {value!r}")
    return int(value)


def boolean(what: str, value: Any) -> bool:
    """Accept True or False and nothing like them."""
    if not isinstance(value, bool):
        raise ValueError(f"{what} must be True or False, not {value!r}")  # noqa: TRY004
    return value


def count(what: str, value: Any, *, least: int = 0) -> int:
    """Accept a whole number from ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < _INT32 - 1:
        raise ValueError(f"{what} must be a whole number from {least}, not {value!r}")
    return int(value)


def instant(what: str, value: Any) -> datetime | None:
    """Accept an aware datetime, or None."""
    if value is None or (isinstance(value, datetime) and value.tzinfo is not None):
        return value
    raise ValueError(f"{what} must be a datetime with a timezone, not {value!r}")


def model(value: Any) -> type[Any] | None:
    """Accept a pydantic model class, told by what it can do so that pydantic need not be imported, or None."""
    if value is not None and not (isinstance(value, type) and hasattr(value, "model_validate")):
        raise ValueError(f"args_model must be a pydantic model class, not {value!r}")
    return cast("type[Any] | None", value)


def seconds(what: str, value: Any) -> float:
    """Accept a duration, see ``Seconds``."""
    try:
        return parse_duration_s(value.total_seconds() if isinstance(value, timedelta) else value)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error


def run_time(value: Any) -> tuple[datetime | None, float | None]:
    """Split ``scheduled_at`` into an instant or a delay; a delay that is over, or none, is neither."""
    if value is None:
        return None, None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(
                f"scheduled_at {value.isoformat()} has no timezone, and hosts disagree about local time; "
                "pass datetime.now(UTC) + ..., a timedelta or a number of seconds"
            )
        return value, None
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(  # noqa: TRY004
            f"scheduled_at must be an aware datetime, a timedelta or a number of seconds, not {value!r}"
        )
    if math.isnan(value) or value > LONGEST_DELAY_S:
        raise ValueError(f"scheduled_at must be at most 100 years away, not {value!r} seconds")
    return None, float(value) if value > 0 else None


def task_name(value: Any, pattern: str) -> str:
    """Accept a task's name; raises InvalidTaskNameError."""
    if not isinstance(value, str):
        raise InvalidTaskNameError(f"cannot use {value!r} as a task name: it is not a str")
    if _compiled(pattern).fullmatch(value) is None or len(value) > LONGEST_NAME:
        raise InvalidTaskNameError(
            f"cannot use {value!r} as a task name: it does not match {pattern!r} (setting task_name_pattern)",
            name=value,
            pattern=pattern,
        )
    return value


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
