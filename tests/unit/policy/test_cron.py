"""When a schedule's ticks are: the grid, daylight saving time both ways, and missed ticks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soniqd.model import ScheduleSpec
from soniqd.policy.cron import ON_TIME_S, first_run, next_cron_tick, next_ticks

BERLIN = "Europe/Berlin"
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",  # changes at midnight
    "Australia/Lord_Howe",  # changes by half an hour
    "Africa/Casablanca",  # changes twice within weeks
    "Asia/Kolkata",
    "Pacific/Apia",  # skipped a whole day
]
FIXED = ["30 2 * * *", "0 0 * * *", "15 1,2,3 * * *", "*/20 2 * * *", "0 12 1 * *", "5 2 * * 0"]
HOURLY = ["*/15 * * * *", "30 * * * *", "0 */2 * * *", "* * * * *"]


def every(seconds: float, **fields) -> ScheduleSpec:
    return ScheduleSpec(name="s", job_name="t", type="interval", value=repr(seconds), **fields)


def cron(expression: str, timezone: str = "UTC", **fields) -> ScheduleSpec:
    return ScheduleSpec(name="s", job_name="t", type="cron", value=expression, timezone=timezone, **fields)


def ticks(expression: str, start: str, count: int, timezone: str = BERLIN) -> list[str]:
    """Return the wall clock at the next ticks, with its offset."""
    at, found = datetime.fromisoformat(start), []
    for _ in range(count):
        at = next_cron_tick(expression, timezone, at)
        found.append(at.astimezone(ZoneInfo(timezone)).strftime("%d %H:%M%z"))
    return found


def test_a_fixed_time_in_the_gap_ticks_at_its_end():
    assert ticks("30 2 * * *", "2026-03-28T00:00+01:00", 3) == ["28 02:30+0100", "29 03:00+0200", "30 02:30+0200"]


def test_several_fixed_times_in_the_gap_tick_once():
    assert ticks("*/15 2 * * *", "2026-03-29T00:00+01:00", 2) == ["29 03:00+0200", "30 02:00+0200"]


def test_a_fixed_time_at_the_end_of_the_gap_does_not_tick_twice():
    assert ticks("30 2,3 * * *", "2026-03-29T00:00+01:00", 2) == ["29 03:00+0200", "29 03:30+0200"]
    assert ticks("0 2,3 * * *", "2026-03-29T00:00+01:00", 2) == ["29 03:00+0200", "30 02:00+0200"]


def test_every_hour_goes_on_over_the_gap():
    assert ticks("*/30 * * * *", "2026-03-29T01:00+01:00", 3) == ["29 01:30+0100", "29 03:00+0200", "29 03:30+0200"]


def test_a_fixed_time_that_happens_twice_ticks_the_first_time():
    assert ticks("30 2 * * *", "2026-10-25T00:00+02:00", 2) == ["25 02:30+0200", "26 02:30+0100"]


def test_every_hour_ticks_both_times():
    assert ticks("30 * * * *", "2026-10-25T01:00+02:00", 4) == [
        "25 01:30+0200",
        "25 02:30+0200",
        "25 02:30+0100",
        "25 03:30+0100",
    ]


def test_a_change_at_midnight_moves_the_daily_tick_to_its_end():
    assert ticks("0 0 * * *", "2026-09-05T00:00-04:00", 2, "America/Santiago") == ["06 01:00-0300", "07 00:00-0300"]


def test_a_day_that_the_zone_skips_has_its_tick_at_the_change():
    assert ticks("0 12 * * *", "2011-12-29T13:00-10:00", 2, "Pacific/Apia") == ["31 00:00+1400", "31 12:00+1400"]


@pytest.mark.parametrize(
    ("alias", "expression"), [("@hourly", "0 * * * *"), ("@daily", "0 0 * * *"), ("@weekly", "0 0 * * 0")]
)
def test_an_alias_is_the_expression_that_it_stands_for(alias, expression):
    start = "2026-10-24T00:00+02:00"
    assert ticks(alias, start, 40) == ticks(expression, start, 40)


def test_an_expression_that_never_ticks_is_an_error():
    with pytest.raises(ValueError, match="failed to find"):
        next_cron_tick("0 0 30 2 *", "UTC", NOON)


instants = st.integers(0, 30 * 365 * 86_400).map(
    lambda second: datetime(2005, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
)


@settings(deadline=None)
@given(at=instants, expression=st.sampled_from(FIXED + HOURLY), zone=st.sampled_from(ZONES))
def test_the_next_tick_is_later_and_stable(at, expression, zone):
    tick = next_cron_tick(expression, zone, at)
    assert tick > at
    middle = at + (tick - at) / 2
    assert next_cron_tick(expression, zone, middle) == tick
    assert next_cron_tick(expression, zone, tick) > tick


@settings(deadline=None)
@given(at=instants, expression=st.sampled_from(HOURLY), zone=st.sampled_from(ZONES))
def test_an_hourly_tick_is_always_at_a_wall_time_that_matches(at, expression, zone):
    from croniter import croniter

    wall = next_cron_tick(expression, zone, at).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    assert croniter.match(expression, wall)
    assert wall.second == 0


@settings(deadline=None)
@given(at=instants, zone=st.sampled_from(ZONES))
def test_a_daily_schedule_ticks_once_a_day(at, zone):
    local = at.astimezone(ZoneInfo(zone))
    days = []
    for _ in range(5):
        at = next_cron_tick("30 2 * * *", zone, at)
        days.append(at.astimezone(ZoneInfo(zone)).date())
    assert len(set(days)) == 5
    assert days[0] >= local.date()
    if zone != "Pacific/Apia":
        assert all(later - earlier == timedelta(days=1) for earlier, later in pairwise(days))


@settings(deadline=None)
@given(step_s=st.integers(1, 100_000), steps=st.integers(0, 10_000), late_s=st.floats(0, 100_000))
def test_intervals_stay_on_their_grid(step_s, steps, late_s):
    start = NOON
    due = next_ticks(every(step_s), start, start + timedelta(seconds=step_s * steps + min(late_s, step_s * 0.999)))
    assert due.next_run == start + timedelta(seconds=step_s) * (steps + 1)
    assert all((tick - start) % timedelta(seconds=step_s) == timedelta(0) for tick in due.fire)
    assert due.fire[-1] == due.next_run - timedelta(seconds=step_s)


def test_an_interval_longer_than_the_time_between_deploys_fires_all_the_same():
    """Defect 11: what counts is the stored next tick, not when a process has started."""
    stored = NOON
    for hours in range(1, 24):
        assert next_ticks(every(86_400), stored, NOON - timedelta(hours=24 - hours)).fire == ()
    assert next_ticks(every(86_400), stored, NOON).fire == (NOON,)


def test_nothing_is_due_before_its_time():
    due = next_ticks(every(60), NOON, NOON - timedelta(microseconds=1))
    assert (due.fire, due.next_run) == ((), NOON)


@pytest.mark.parametrize("spec", [every(600), cron("*/10 * * * *")], ids=["interval", "cron"])
def test_missed_ticks_of_the_last_hour_are_fired_one_by_one_and_of_older_ones_the_latest(spec):
    now = NOON + timedelta(minutes=1)
    due = next_ticks(spec, NOON - timedelta(days=3), now)
    assert [(now - tick).total_seconds() / 60 for tick in due.fire] == [61, 51, 41, 31, 21, 11, 1]
    assert due.next_run == NOON + timedelta(minutes=10)


@pytest.mark.parametrize("spec", [every(86_400), cron("0 12 * * *")], ids=["interval", "cron"])
def test_of_ticks_that_are_all_old_the_latest_is_fired(spec):
    due = next_ticks(spec, NOON - timedelta(days=30), NOON + timedelta(hours=5))
    assert due.fire == (NOON,)
    assert due.next_run == NOON + timedelta(days=1)


def test_a_single_old_tick_is_fired():
    due = next_ticks(cron("0 12 1 6 *"), NOON, NOON + timedelta(days=100))
    assert due.fire == (NOON,)
    assert due.next_run == NOON.replace(year=2027)


@pytest.mark.parametrize("kind", ["interval", "cron"])
def test_latest_fires_one_tick_whatever_was_missed(kind):
    spec = every(600, missed="latest") if kind == "interval" else cron("*/10 * * * *", missed="latest")
    due = next_ticks(spec, NOON - timedelta(days=3), NOON + timedelta(minutes=1))
    assert due.fire == (NOON,)


@pytest.mark.parametrize("kind", ["interval", "cron"])
@pytest.mark.parametrize(("late_s", "fires"), [(0, True), (ON_TIME_S, True), (ON_TIME_S + 1, False)])
def test_skip_fires_what_is_on_time_only(kind, late_s, fires):
    spec = every(600, missed="skip") if kind == "interval" else cron("*/10 * * * *", missed="skip")
    due = next_ticks(spec, NOON - timedelta(hours=5), NOON + timedelta(seconds=late_s))
    assert due.fire == ((NOON,) if fires else ())
    assert due.next_run == NOON + timedelta(minutes=10)


@settings(deadline=None, max_examples=40)
@given(
    expression=st.sampled_from(["*/7 * * * *", "13 */3 * * *", "0 4 * * 1", "0 0 1 * *"]),
    zone=st.sampled_from(ZONES),
    gap_s=st.integers(0, 20_000) | st.integers(0, 2 * 86_400),
    start=instants,
)
def test_ticks_after_an_outage_are_those_that_were_due(expression, zone, gap_s, start):
    """Compare with walking from tick to tick, which is slow and plain."""
    spec = cron(expression, zone)
    next_run = next_cron_tick(expression, zone, start)
    now = next_run + timedelta(seconds=gap_s)
    walked = [next_run]
    while (tick := next_cron_tick(expression, zone, walked[-1])) <= now:
        walked.append(tick)
    recent = [tick for tick in walked if tick >= now - timedelta(hours=1)]
    older = [tick for tick in walked if tick < now - timedelta(hours=1)]
    due = next_ticks(spec, next_run, now)
    assert list(due.fire) == older[-1:] + recent
    assert due.next_run == tick


def test_a_tick_exactly_an_hour_old_counts_to_the_last_hour():
    next_run = datetime(2005, 1, 1, 0, 7, tzinfo=UTC)
    due = next_ticks(cron("*/7 * * * *"), next_run, next_run + timedelta(hours=3))
    assert [tick.minute for tick in due.fire[:3]] == [0, 7, 14]


def test_a_burst_of_missed_ticks_is_bounded():
    due = next_ticks(every(1), NOON - timedelta(days=365), NOON)
    assert len(due.fire) == 3602


def test_a_new_interval_starts_one_interval_from_now():
    assert first_run(every(90), NOON) == NOON + timedelta(seconds=90)


def test_a_new_cron_schedule_starts_at_its_next_tick():
    assert first_run(cron("0 9 * * *", BERLIN), NOON) == datetime(2026, 6, 2, 7, tzinfo=UTC)
