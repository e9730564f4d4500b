"""Whom the master wakes for a job."""

from __future__ import annotations

from collections.abc import Mapping

from soniqd.policy.waking import TURN_S, Sleeper, Woken, choose_sleeper


def sleeper(worker_id: str, *, queues: tuple[str, ...] = (), free: int = 1, in_flight: int = 0) -> Sleeper:
    return Sleeper(worker_id, queues, free, in_flight)


class Host:
    """Workers, what they show of themselves, and a clock that is moved by hand."""

    def __init__(self, *sleepers: Sleeper) -> None:
        self.sleepers = sleepers
        self.looks: dict[str, int | None] = {one.worker_id: 0 for one in sleepers}
        self.woken: dict[str, Woken] = {}
        self.now_s = 100.0

    def wake(self, queue: str | None = None, *, answers: bool = True) -> str | None:
        """Wake somebody, who then looks and comes to rest again, if it answers."""
        self.now_s += 0.02
        chosen = choose_sleeper(self.sleepers, queue, self.woken, looks=self.looks.__getitem__, now_s=self.now_s)
        if chosen is None:
            return None
        worker_id, self.woken[worker_id] = chosen
        if answers:
            self.looks[worker_id] = (self.looks[worker_id] or 0) + 1
        return worker_id


def choose(sleepers: list[Sleeper], queue: str | None, woken_at: Mapping[str, float]) -> str | None:
    woken = {name: Woken(at_s, at_s, None) for name, at_s in woken_at.items()}
    chosen = choose_sleeper(sleepers, queue, woken, looks=lambda _: None, now_s=10.0)
    return None if chosen is None else chosen[0]


def test_a_worker_without_room_is_left_alone():
    assert choose([sleeper("a", free=0)], "mail", {}) is None


def test_a_worker_that_does_not_serve_the_queue_is_left_alone():
    assert choose([sleeper("a", queues=("other",))], "mail", {}) is None


def test_a_worker_of_all_queues_serves_each():
    assert choose([sleeper("a")], "mail", {}) == "a"


def test_the_least_busy_one_is_chosen():
    assert choose([sleeper("a", in_flight=2), sleeper("b", in_flight=1)], None, {}) == "b"


def test_among_equals_the_one_woken_the_longest_ago_is_chosen():
    assert choose([sleeper("a"), sleeper("b")], None, {"a": 5.0, "b": 3.0}) == "b"


def test_a_worker_that_has_come_to_rest_is_woken_again():
    host = Host(sleeper("a"), sleeper("b"), sleeper("c"))
    assert {host.wake() for _ in range(10)} == {"a"}


def test_a_turn_ends_and_everybody_gets_one():
    host = Host(sleeper("a"), sleeper("b"), sleeper("c"))
    calls = []
    for _ in range(6):
        calls.append(host.wake())
        assert host.wake() == calls[-1]
        host.now_s += TURN_S
    assert calls == ["a", "b", "c", "a", "b", "c"]


def test_a_worker_that_does_not_answer_misses_one_wake_up_in_a_round():
    host = Host(sleeper("a"), sleeper("b"), sleeper("c"))
    assert host.wake(answers=False) == "a"
    assert [host.wake() for _ in range(5)] == ["b"] * 5
    host.now_s += TURN_S
    assert host.wake() == "c"
    host.now_s += TURN_S
    assert host.wake(answers=False) == "a"
    assert host.wake() == "b"


def test_a_worker_that_runs_a_job_is_passed_over():
    host = Host(sleeper("a"), sleeper("b"))
    assert host.wake() == "a"
    host.looks["a"] = None
    assert host.wake() == "b"
    assert host.wake() == "b"


def test_a_worker_that_was_woken_while_it_ran_something_has_no_turn():
    host = Host(sleeper("a"), sleeper("b"))
    host.looks = {"a": None, "b": None}
    assert [host.wake(answers=False) for _ in range(4)] == ["a", "b", "a", "b"]


def test_a_worker_that_is_new_has_its_turn_next():
    host = Host(sleeper("a"), sleeper("b"))
    for _ in range(4):
        host.wake()
        host.now_s += TURN_S
    host.sleepers = (*host.sleepers, sleeper("new"))
    host.looks["new"] = 0
    assert host.wake() == "new"


def test_turns_are_those_of_the_workers_that_serve_the_queue():
    host = Host(sleeper("m1", queues=("mail",)), sleeper("m2", queues=("mail",)), sleeper("p", queues=("print",)))
    assert [host.wake(queue) for queue in ("mail", "print", "mail", "print", "mail")] == ["m1", "p", "m1", "p", "m1"]


def test_the_only_one_is_woken_whatever_is_known():
    host = Host(sleeper("a"))
    assert [host.wake(answers=False) for _ in range(3)] == ["a"] * 3
