"""What a service manager is told, as scripts of moments."""

import pytest

from soniqd.policy.service import (
    EXTEND_EVERY_S,
    EXTEND_S,
    Extend,
    Note,
    Ready,
    Reloading,
    ServiceFacts,
    ServiceTalk,
    Status,
    Stopping,
    Watchdog,
    status_line,
)

BOOTING, RUNNING, STOPPING = ServiceFacts("booting"), ServiceFacts("running"), ServiceFacts("stopping")
RELOADING = ServiceFacts("running", reloading=True, reloads=1)
MORE = Extend(EXTEND_S)


def said(talk: ServiceTalk, *facts: ServiceFacts) -> list[Note]:
    """Everything said at moments that follow at once."""
    return [note for each in facts for note in talk.next_notes(each, 0.0)]


def test_a_start_asks_for_time_until_it_is_ready() -> None:
    assert said(ServiceTalk(), BOOTING, BOOTING, RUNNING, RUNNING) == [MORE, Ready()]


def test_a_reload_is_announced_and_ended_once() -> None:
    assert said(ServiceTalk(), RUNNING, RELOADING, RELOADING, RUNNING) == [Ready(), Reloading(), MORE, Ready()]


def test_a_reload_during_another_one_is_announced_too_and_both_end_together() -> None:
    second = ServiceFacts("running", reloading=True, reloads=2)
    notes = said(ServiceTalk(), RUNNING, RELOADING, second, ServiceFacts("running", reloads=2))
    assert notes == [Ready(), Reloading(), MORE, Reloading(), MORE, Ready()]


def test_a_reload_that_is_asked_for_during_the_start_does_not_hide_that_it_is_ready() -> None:
    early = ServiceFacts("booting", reloading=True, reloads=1)
    assert said(ServiceTalk(), early, ServiceFacts("running", reloads=1)) == [MORE, Ready()]


def test_the_image_after_an_upgrade_ends_what_the_one_before_announced() -> None:
    assert said(ServiceTalk(after_upgrade=True), RUNNING, RUNNING) == [Ready()]


def test_a_stop_is_announced_once_and_asks_for_time() -> None:
    leaving = ServiceFacts("leaving")
    assert said(ServiceTalk(), RUNNING, STOPPING, STOPPING, leaving) == [Ready(), Stopping(), MORE]


def test_a_stop_during_a_reload_ends_the_reload_first() -> None:
    notes = said(ServiceTalk(), RUNNING, RELOADING, STOPPING)
    assert notes == [Ready(), Reloading(), MORE, Ready(), Stopping(), MORE]


def test_a_failed_start_is_never_ready() -> None:
    assert said(ServiceTalk(), BOOTING, ServiceFacts("leaving")) == [MORE, Stopping(), MORE]


@pytest.mark.parametrize("facts", [BOOTING, RELOADING, STOPPING])
def test_more_time_is_asked_for_again_while_something_lasts_before_it_is_used_up(facts: ServiceFacts) -> None:
    talk = ServiceTalk()
    said(talk, *([] if facts is BOOTING else [RUNNING]))
    asked = [now for now in range(60) for note in talk.next_notes(facts, float(now)) if note == MORE]
    assert asked == [float(now) for now in range(0, 60, int(EXTEND_EVERY_S))]
    assert EXTEND_EVERY_S * 2 < EXTEND_S


def test_no_time_is_asked_for_while_nothing_lasts() -> None:
    talk = ServiceTalk()
    said(talk, RUNNING)
    assert [note for now in range(60) for note in talk.next_notes(RUNNING, float(now))] == []


@pytest.mark.parametrize("facts", [BOOTING, RUNNING, RELOADING, STOPPING])
def test_only_proofs_feed_the_watchdog(facts: ServiceFacts) -> None:
    talk = ServiceTalk(watchdog_s=4.0)
    assert not any(isinstance(n, Watchdog) for now in range(20) for n in talk.next_notes(facts, float(now)))
    assert Watchdog() in talk.next_notes(facts, 20.0, proof=True)


def test_without_a_watchdog_proofs_are_nobodys_business() -> None:
    talk = ServiceTalk()
    said(talk, RUNNING)
    assert talk.next_notes(RUNNING, 1.0, proof=True) == []


@pytest.mark.parametrize("watchdog_s", [0.4, 2.0, 30.0, 600.0])
def test_proofs_at_the_pace_of_the_ticks_keep_the_watchdog_quiet_even_if_one_is_lost(watchdog_s: float) -> None:
    talk = ServiceTalk(watchdog_s=watchdog_s)
    moments = [number * talk.tick_interval_s for number in range(int(3 * watchdog_s / talk.tick_interval_s) + 1)]
    fed = [now for now in moments for note in talk.next_notes(RUNNING, now, proof=True) if isinstance(note, Watchdog)]
    assert max(later - now for now, later in zip(fed, fed[2:], strict=False)) < watchdog_s
    assert len(fed) <= 3 * 8 + 1


def test_a_status_is_said_when_it_changes_but_once_a_second_at_most() -> None:
    talk = ServiceTalk()
    notes = [
        talk.next_notes(ServiceFacts("running", status=status), now)
        for now, status in [(0.0, "a"), (0.1, "b"), (0.9, "c"), (1.0, "d"), (2.5, "d")]
    ]
    assert notes == [[Ready(), Status("a")], [], [], [Status("d")], []]


def test_a_change_of_state_takes_its_status_along_at_once() -> None:
    talk = ServiceTalk()
    talk.next_notes(ServiceFacts("running", status="running"), 0.0)
    assert talk.next_notes(ServiceFacts("stopping", status="draining"), 0.1)[-1] == Status("draining")


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ((3, 3, 2), "running: 3 children, 2 jobs running"),
        ((1, 0, 1), "running: 1 child, 1 job running"),
        ((2, 4, 0), "running: 2 of 4 children, 0 jobs running"),
    ],
)
def test_the_status_counts(counts: tuple[int, int, int], line: str) -> None:
    children, wanted, jobs = counts
    assert status_line(doing="running", children=children, wanted=wanted, jobs=jobs, database_up=True) == line


@pytest.mark.parametrize(
    ("up", "failed", "end"),
    [
        (True, False, "0 jobs running"),
        (False, False, "0 jobs running, the database is down"),
        (None, True, "0 jobs running, connecting to the database, the last reload failed"),
    ],
)
def test_the_status_names_what_is_wrong(up: bool | None, failed: bool, end: str) -> None:
    line = status_line(doing="running", children=1, wanted=1, jobs=0, database_up=up, reload_failed=failed)
    assert line == f"running: 1 child, {end}"
