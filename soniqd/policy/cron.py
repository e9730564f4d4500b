"""When a schedule's ticks are.

**Cron** expressions mean the wall clock of the schedule's timezone:

* A wall time that a change to daylight saving time skips: a schedule with fixed hours ("30 2 * * *") ticks at the first
  instant after the gap, once; one for every hour ("*/15 * * * *": an hour field that begins with ``*``) just goes on.
* A wall time that happens twice: a schedule with fixed hours ticks the first time only; one for every hour both times.

These are the rules of Debian's cron(8) for changes of up to three hours, applied to every change.

**Intervals** tick on a fixed grid: the stored next tick and whole intervals from there, so that neither a restart nor
a late tick moves the grid.

**Missed ticks** are those that nobody was there to fire. ``all`` fires each of the last hour, and of the older ones
the latest; ``latest`` fires only the latest; ``skip`` fires none that is later than :data:`ON_TIME_S`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from croniter import croniter

from soniqd.model import ScheduleSpec

ON_TIME_S = 30.0
"""A tick that is fired by then counts as fired in time: a failover or a restart of the database is no miss."""

_ALL_WITHIN = timedelta(hours=1)
_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_SHORTEST = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class DueTicks:
    """Ticks to fire now, oldest first, and the first one after them: what is to be stored as ``next_run``."""

    fire: tuple[datetime, ...]
    next_run: datetime


def first_run(spec: ScheduleSpec, now: datetime) -> datetime:
    """Return the first tick of a schedule that is new at ``now``."""
    if spec.type == "interval":
        return now.astimezone(UTC) + _interval(spec)
    return next_cron_tick(spec.value, spec.timezone, now)


def next_ticks(spec: ScheduleSpec, next_run: datetime, now: datetime) -> DueTicks:
    """Return what is due of a schedule whose first unfired tick is ``next_run``. In UTC."""
    next_run, now = next_run.astimezone(UTC), now.astimezone(UTC)
    if next_run > now:
        return DueTicks((), next_run)
    if spec.type == "interval":
        return _due_on_grid(spec, next_run, now)
    return _due_by_cron(spec, next_run, now)


def _interval(spec: ScheduleSpec) -> timedelta:
    return max(timedelta(seconds=float(spec.value)), _SHORTEST)


def _due_on_grid(spec: ScheduleSpec, next_run: datetime, now: datetime) -> DueTicks:
    step = _interval(spec)
    latest = (now - next_run) // step
    first = latest
    if spec.missed == "all":
        older = -((next_run - (now - _ALL_WITHIN)) // step)  # how many ticks are before the last hour
        first = max(0, older - 1)
    ticks = [next_run + step * index for index in range(first, latest + 1)]
    return DueTicks(_chosen(spec, ticks, now), next_run + step * (latest + 1))


def _due_by_cron(spec: ScheduleSpec, next_run: datetime, now: datetime) -> DueTicks:
    """Look only as far back as ticks are fired one by one; the latest older one is found by looking further back."""
    horizon = now - _ALL_WITHIN
    first = next_run if next_run >= horizon else _latest_cron_tick(spec, next_run, horizon)
    ticks = deque([first])
    for tick in _cron_ticks(spec, first):
        if tick > now:
            return DueTicks(_chosen(spec, list(ticks), now), tick)
        ticks.append(tick)
    raise AssertionError("a cron expression has no last tick")


def _latest_cron_tick(spec: ScheduleSpec, next_run: datetime, until: datetime) -> datetime:
    """Return the last tick in [next_run, until), searching backwards in growing steps."""
    back = timedelta(hours=1)
    while (start := until - back) > next_run:
        if (found := _last_before(spec, start, until)) is not None:
            return found
        back *= 4
    return _last_before(spec, next_run, until) or next_run


def _last_before(spec: ScheduleSpec, start: datetime, until: datetime) -> datetime | None:
    found = None
    for tick in _cron_ticks(spec, start):
        if tick >= until:
            break
        found = tick
    return found


def _chosen(spec: ScheduleSpec, ticks: list[datetime], now: datetime) -> tuple[datetime, ...]:
    match spec.missed:
        case "all":
            recent = [tick for tick in ticks if tick >= now - _ALL_WITHIN]
            return tuple(ticks[: len(ticks) - len(recent)][-1:] + recent)
        case "latest":
            return tuple(ticks[-1:])
        case "skip":
            return tuple(tick for tick in ticks[-1:] if now - tick <= timedelta(seconds=ON_TIME_S))


def _cron_ticks(spec: ScheduleSpec, after: datetime) -> Iterator[datetime]:
    while True:
        after = next_cron_tick(spec.value, spec.timezone, after)
        yield after


def next_cron_tick(expression: str, timezone: str, after: datetime) -> datetime:
    """Return the first tick after an instant, in UTC; raises ValueError for an expression that never ticks."""
    fields = _ALIASES.get(expression.strip().lower(), expression).split()
    zone = ZoneInfo(timezone)
    walk = _WallClock(" ".join(fields))
    find = _next_of_every_hour if fields[1].startswith("*") else _next_of_fixed_hours
    return find(walk.after, zone, after.astimezone(UTC))


class _WallClock:
    """Wall times that match an expression, without any timezone."""

    def __init__(self, expression: str) -> None:
        self._expression = expression

    def after(self, wall: datetime) -> datetime:
        """Return the first match after a wall time."""
        match: datetime = croniter(self._expression, wall).get_next(datetime)
        return match


_NextWall = Callable[[datetime], datetime]


def _next_of_fixed_hours(next_wall: _NextWall, zone: tzinfo, after: datetime) -> datetime:
    """Map each matching wall time to its first instant, or to the end of the gap that it falls into.

    That mapping never goes backwards, so walking over the wall times visits the instants in order.
    """
    wall = _wall(after, zone)
    while True:
        wall = next_wall(wall)
        instant = wall.replace(tzinfo=zone).astimezone(UTC)  # fold=0: the first of two
        if _wall(instant, zone) != wall:
            instant = _end_of_gap(wall, zone)
        if instant > after:
            return instant


def _end_of_gap(wall: datetime, zone: tzinfo) -> datetime:
    """Return the instant of the change that skips a wall time.

    fold=1 reads the wall time by the offset after the change, which is before it, and fold=0 the other way round
    (PEP 495, "The missing time").
    """
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    behind = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    change = _first_change(zone, before, behind)
    assert change is not None
    return change


def _next_of_every_hour(next_wall: _NextWall, zone: tzinfo, after: datetime) -> datetime:
    """Walk from one change of the zone's offset to the next; between them, wall time runs evenly."""
    start, wall = after, _wall(after, zone)
    while True:
        offset = _offset(start, zone)
        instant = (next_wall(wall) - offset).replace(tzinfo=UTC)
        change = _first_change(zone, start, instant)
        if change is None:
            return instant
        # The wall time at the change itself may match, so the search goes on from just before it.
        start, wall = change, _wall(change, zone) - timedelta(seconds=1)


def _first_change(zone: tzinfo, start: datetime, end: datetime) -> datetime | None:
    """Return the first instant in (start, end] with another offset than just before it, to the second."""
    offset = _offset(start, zone)
    low = start
    while low < end:
        high = min(low + timedelta(days=1), end)
        if _offset(high, zone) != offset:
            return _bisect(zone, low, high, offset)
        low = high
    return None


def _bisect(zone: tzinfo, low: datetime, high: datetime, offset: timedelta) -> datetime:
    """Return the first instant in (low, high] without ``offset``: ``low`` has it, ``high`` has not."""
    while high - low > _MICROSECOND:
        middle = low + (high - low) / 2
        if _offset(middle, zone) == offset:
            low = middle
        else:
            high = middle
    return high


def _wall(instant: datetime, zone: tzinfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def _offset(instant: datetime, zone: tzinfo) -> timedelta:
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None
    return offset
