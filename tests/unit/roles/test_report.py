import asyncio
from collections.abc import Callable

import pytest

from soniqd.control.link import State
from soniqd.model.child import ChildSpec
from soniqd.roles import report
from soniqd.roles.report import Reporter, title

WORKER = ChildSpec("worker", "default", 2, generation=1, worker_id="w")
SCHEDULER = ChildSpec("scheduler", "scheduler", 1, generation=1, worker_id="s")


class FakeLoop:
    """Timers that run when the test says so."""

    def __init__(self) -> None:
        self.timers: list[Callable[[], None]] = []
        self.now = 100.0

    def time(self) -> float:
        return self.now

    def call_at(self, at, callback):
        assert self.now < at <= self.now + report.LEAST_INTERVAL_S
        self.timers.append(callback)
        return self

    def cancel(self) -> None:
        self.timers.clear()

    def elapse(self) -> None:
        self.now += report.LEAST_INTERVAL_S
        due, self.timers = self.timers, []
        for callback in due:
            callback()


class Reported:
    def __init__(self) -> None:
        self.state = State("running")
        self.sent: list[State] = []
        self.loop = FakeLoop()
        self.reporter = Reporter(WORKER, self.loop, observe=lambda: self.state, send=self.sent.append)  # type: ignore[arg-type]

    def change(self, in_flight: int) -> None:
        self.state = State("running", in_flight=in_flight)
        self.reporter.changed()


@pytest.fixture
def reported(monkeypatch):
    monkeypatch.setattr(report, "setproctitle", lambda _title: None)
    return Reported()


def test_the_first_change_is_reported_at_once(reported):
    reported.change(1)
    assert [state.in_flight for state in reported.sent] == [1]


def test_a_change_that_comes_alone_sets_no_timer(reported):
    reported.change(1)
    assert not reported.loop.timers
    reported.loop.elapse()
    reported.change(2)
    assert [state.in_flight for state in reported.sent] == [1, 2]
    assert not reported.loop.timers


def test_a_burst_of_changes_is_reported_twice_the_second_time_with_the_last(reported):
    for number in range(1, 1000):
        reported.change(number)
    assert len(reported.sent) == 1
    reported.loop.elapse()
    assert [state.in_flight for state in reported.sent] == [1, 999]


def test_a_change_within_the_interval_after_a_delayed_report_waits_again(reported):
    reported.change(1)
    reported.change(2)
    reported.loop.elapse()
    reported.change(3)
    assert len(reported.sent) == 2
    reported.loop.elapse()
    assert reported.sent[-1].in_flight == 3


def test_nothing_new_is_not_reported_again_and_leaves_no_timer_running(reported):
    reported.change(1)
    reported.change(1)
    reported.loop.elapse()
    reported.loop.elapse()
    assert len(reported.sent) == 1
    assert not reported.loop.timers


def test_a_new_phase_is_reported_within_the_interval(reported):
    reported.change(1)
    reported.state = State("draining", in_flight=1)
    reported.reporter.report_now()
    assert reported.sent[-1].phase == "draining"


def test_the_title_is_set_when_it_changes_only(monkeypatch):
    titles: list[str] = []
    monkeypatch.setattr(report, "setproctitle", titles.append)
    reported = Reported()
    for done in range(3):
        reported.state = State("running", in_flight=3, done=done)
        reported.reporter.report_now()
    assert titles == ["soniqd: worker default/2 [3 running]"]
    assert len(reported.sent) == 3


async def test_with_a_real_loop_the_delayed_report_comes(monkeypatch):
    monkeypatch.setattr(report, "setproctitle", lambda _title: None)
    last = asyncio.Event()
    state = State("running")
    reporter = Reporter(
        WORKER,
        asyncio.get_running_loop(),
        observe=lambda: state,
        send=lambda sent: last.set() if sent.in_flight else None,
    )
    reporter.changed()
    state = State("running", in_flight=1)
    reporter.changed()
    await asyncio.wait_for(last.wait(), 5)
    reporter.stop()


@pytest.mark.parametrize(
    ("spec", "state", "expected"),
    [
        (WORKER, State("running", in_flight=3), "soniqd: worker default/2 [3 running]"),
        (WORKER, State("running"), "soniqd: worker default/2 [idle]"),
        (WORKER, State("draining", in_flight=1), "soniqd: worker default/2 [draining, 1 running]"),
        (WORKER, State("paused"), "soniqd: worker default/2 [paused, idle]"),
        (WORKER, State("waiting_for_database"), "soniqd: worker default/2 [waiting for database]"),
        (SCHEDULER, State("leading"), "soniqd: scheduler [leading]"),
        (SCHEDULER, State("starting"), "soniqd: scheduler [starting]"),
    ],
)
def test_titles_say_what_a_child_does(spec, state, expected):
    assert title(spec, state) == expected
