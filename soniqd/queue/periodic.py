"""What ``@app.periodic`` and ``app.scheduler.add`` say about time, checked before anything is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self, get_args
from zoneinfo import ZoneInfo

from croniter import croniter

from soniqd.errors import ConfigurationError
from soniqd.model import ScheduleSpec
from soniqd.model.schedule import MissedPolicy, ScheduleType
from soniqd.policy.cron import next_cron_tick
from soniqd.queue import payload, values
from soniqd.queue.new_jobs import Recipe
from soniqd.queue.values import Seconds

SHORTEST_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class DeclaredSchedule:
    """A schedule as it was said, checked; ``name`` None is the task's."""

    name: str | None
    type: ScheduleType
    value: str
    args: dict[str, Any]
    args_json: str
    timezone: str
    missed: MissedPolicy

    @classmethod
    def checked(
        cls,
        name: str | None,
        *,
        cron: str | None,
        every: Seconds | None,
        args: Mapping[str, Any] | None,
        timezone: str,
        missed: MissedPolicy,
    ) -> Self:
        """Check what can be checked without a task; raises ConfigurationError or InvalidArgumentsError."""
        job_args = dict(args or {})
        try:
            type_, value = schedule_value(cron=cron, every=every)
            return cls(
                name=None if name is None else values.schedule_name(name),
                type=type_,
                value=value,
                args=job_args,
                args_json=payload.encode_args(job_args),
                timezone=timezone_name(timezone),
                missed=missed_policy(missed),
            )
        except ValueError as error:
            raise ConfigurationError(f"cannot declare a schedule: {error}") from error

    def spec(self, recipe: Recipe) -> ScheduleSpec:
        """Complete it with what holds for the task's jobs."""
        return ScheduleSpec(
            name=self.name or recipe.name,
            job_name=recipe.name,
            type=self.type,
            value=self.value,
            args_json=self.args_json,
            queue=recipe.queue,
            priority=recipe.priority,
            max_attempts=recipe.max_attempts,
            timezone=self.timezone,
            missed=self.missed,
        )


def schedule_value(*, cron: str | None, every: Seconds | None) -> tuple[ScheduleType, str]:
    """Return a schedule's type and value; raises ValueError.

    A cron expression has five fields, or is an alias such as ``@daily``. Six fields are refused: programs disagree
    whether the additional one comes first or last, and ``every`` says seconds plainly.
    """
    if (cron is None) == (every is None):
        raise ValueError("pass either cron= or every=")
    if cron is not None:
        return "cron", cron_expression(cron)
    interval_s = values.seconds("every", every)
    if not SHORTEST_INTERVAL_S <= interval_s <= values.LONGEST_DELAY_S:
        raise ValueError(f"every must be between {SHORTEST_INTERVAL_S:g} second and 100 years, not {every!r}")
    return "interval", str(int(interval_s)) if interval_s.is_integer() else repr(interval_s)


def cron_expression(value: Any) -> str:
    """Accept a cron expression that fires at some time; raises ValueError."""
    expression = " ".join(str(value).split())
    fields = len(expression.split())
    if fields != 5 and not (fields == 1 and expression.startswith("@")):
        raise ValueError(
            f"cron {expression!r} has {fields} fields, expected five: minute, hour, day of month, month, day of week"
            + ("; for seconds use every=" if fields == 6 else "")
        )
    if not croniter.is_valid(expression) or any(field[0] in "RrHh" for field in expression.split()):
        raise ValueError(f'cron {expression!r} is not a cron expression such as "*/5 * * * *"')
    try:
        next_cron_tick(expression, "UTC", datetime.now(UTC))
    except ValueError as error:
        raise ValueError(f"cron {expression!r} never fires: {error}") from error
    return expression


def timezone_name(value: Any) -> str:
    """Accept an IANA timezone's name; raises ValueError."""
    try:
        return ZoneInfo(value).key
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise ValueError(f'timezone {value!r} is not an IANA name such as "Europe/Berlin"') from error


def missed_policy(value: Any) -> MissedPolicy:
    """Accept a policy for missed ticks; raises ValueError."""
    if value not in get_args(MissedPolicy):
        raise ValueError(f"missed must be one of {', '.join(get_args(MissedPolicy))}, not {value!r}")
    policy: MissedPolicy = value
    return policy
