"""Alive is what a restart could mend, ready is what work could be sent to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from soniqd.policy.health import ChildHealth, DaemonHealth, GroupHealth, why_not_alive, why_not_ready


def worker(slot: str = "default/1", **changes: Any) -> ChildHealth:
    values: dict[str, Any] = {"up": True, "phase": "running", "still_s": 0.5, "free": 4, "looked_ago_s": 1.0}
    return ChildHealth(slot=slot, **values | changes)


def group(*children: ChildHealth, name: str = "default", **changes: Any) -> GroupHealth:
    values: dict[str, Any] = {"role": "worker", "wanted": 1, "hang_timeout_s": 60.0, "children": children}
    return GroupHealth(name=name, **values | changes)


SCHEDULER = group(worker("scheduler/1", phase="following", looked_ago_s=None), name="scheduler", role="scheduler")


def daemon(*groups: GroupHealth, **changes: Any) -> DaemonHealth:
    values: dict[str, Any] = {"phase": "running", "database_up": True, "poll_interval_s": 5.0}
    return DaemonHealth(groups=groups or (group(worker()), SCHEDULER), **values | changes)


def alive(found: DaemonHealth) -> list[tuple[str, str | None]]:
    return [(complaint.code, complaint.group) for complaint in why_not_alive(found)]


def ready(found: DaemonHealth) -> list[tuple[str, str | None]]:
    return [(complaint.code, complaint.group) for complaint in why_not_ready(found)]


def test_a_daemon_at_work_is_alive_and_ready() -> None:
    assert (alive(daemon()), ready(daemon())) == ([], [])


@pytest.mark.parametrize(
    "children",
    [(), (worker(up=False),), (worker(up=False, phase="draining"), worker(up=False, phase="hung"))],
)
def test_a_group_without_a_process_is_neither(children: tuple[ChildHealth, ...]) -> None:
    found = daemon(group(*children, last_exit="signal 9"))
    assert alive(found) == ready(found) == [("group_down", "default")]
    assert why_not_alive(found)[0].text == "no process of default is up, last exit: signal 9"


def test_a_group_that_nobody_wants_may_be_empty() -> None:
    assert ready(daemon(group(wanted=0))) == []


def test_one_process_of_a_group_is_enough() -> None:
    assert ready(daemon(group(worker(up=False), worker("default/2"), wanted=2))) == []


@pytest.mark.parametrize(
    ("hang_timeout_s", "still_s", "codes"),
    [
        (60.0, 64.0, []),
        (60.0, 66.0, ["group_stands_still"]),
        (0.0, 64.0, []),
        (0.0, 66.0, ["group_stands_still"]),
        (5.0, 11.0, ["group_stands_still"]),
    ],
)
def test_a_loop_may_stand_still_as_long_as_the_watchdog_lets_it(
    hang_timeout_s: float, still_s: float, codes: list[str]
) -> None:
    found = daemon(group(worker(still_s=still_s), hang_timeout_s=hang_timeout_s))
    assert [code for code, _ in alive(found)] == codes


def test_one_loop_that_goes_round_is_enough() -> None:
    assert alive(daemon(group(worker(still_s=500.0), worker("default/2"), wanted=2))) == []


def test_a_database_that_is_away_is_no_reason_to_restart() -> None:
    away = worker(phase="waiting_for_database", looked_ago_s=None)
    found = daemon(group(away), database_up=False)
    assert alive(found) == []
    assert ready(found) == [("database_down", None)]


@pytest.mark.parametrize(
    ("error", "text"),
    [(None, "the database is down"), ("connection refused", "the database is down: connection refused")],
)
def test_a_database_that_is_down_says_why(error: str | None, text: str) -> None:
    [complaint] = why_not_ready(daemon(database_up=False, database_error=error))
    assert complaint.text == text


@pytest.mark.parametrize("phase", ["stopping", "leaving"])
def test_a_daemon_that_stops_is_alive_and_not_ready(phase: str) -> None:
    found = daemon(group(), phase=phase)
    assert alive(found) == []
    assert ready(found) == [("stopping", None)]


def test_a_daemon_that_imports_is_not_alive_yet() -> None:
    found = daemon(group(), phase="booting")
    assert alive(found) == ready(found) == [("booting", None)]


@pytest.mark.parametrize(
    ("poll_interval_s", "looked_ago_s", "is_ready"),
    [(1.0, 14.9, True), (1.0, 15.1, False), (10.0, 29.9, True), (10.0, 30.1, False), (5.0, None, False)],
)
def test_a_group_has_to_have_looked_lately(poll_interval_s: float, looked_ago_s: float | None, is_ready: bool) -> None:
    found = daemon(group(worker(looked_ago_s=looked_ago_s)), poll_interval_s=poll_interval_s)
    assert alive(found) == []
    assert ready(found) == ([] if is_ready else [("group_not_looking", "default")])


def test_who_has_no_room_need_not_look() -> None:
    assert ready(daemon(group(worker(looked_ago_s=900.0, free=0, in_flight=4)))) == []


def test_no_room_and_nothing_to_do_is_no_excuse() -> None:
    found = daemon(group(worker(looked_ago_s=900.0, free=0, in_flight=0)))
    assert ready(found) == [("group_not_looking", "default")]


def test_a_drained_group_is_alive_and_not_ready() -> None:
    found = daemon(group(worker(phase="paused", looked_ago_s=900.0), paused=True))
    assert alive(found) == []
    assert ready(found) == [("group_drained", "default")]
    assert why_not_ready(found)[0].text == "workers of default claim nothing more (drained): soniqctl resume default"


def test_a_group_that_was_scaled_to_0_is_alive_and_not_ready() -> None:
    found = daemon(group(wanted=0, configured=2), SCHEDULER)
    assert alive(found) == []
    assert ready(found) == [("group_scaled_to_0", "default")]
    assert why_not_ready(found)[0].text == "default has no processes (scaled to 0): soniqctl scale default 2"


@pytest.mark.parametrize(("phase", "is_ready"), [("leading", True), ("following", True), ("starting", False)])
def test_the_scheduler_has_to_take_part(phase: str, is_ready: bool) -> None:
    scheduler = replace(SCHEDULER, children=(replace(SCHEDULER.children[0], phase=phase),))
    assert ready(daemon(group(worker()), scheduler)) == ([] if is_ready else [("scheduler_out", "scheduler")])
