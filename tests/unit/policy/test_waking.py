"""Whom the master wakes for a job."""

from __future__ import annotations

from collections.abc import Mapping

from soniqd.policy.waking import TURN_S, Sleeper, Woken, keeps_turn, next_turn

NOW_S = 100.0
BEFORE = Woken(NOW_S - 0.02, NOW_S - 0.5, 7)


def sleeper(worker_id: str, *, queues: tuple[str, ...] = (), free: int = 1, in_flight: int = 0) -> Sleeper:
    return Sleeper(worker_id, queues, free, in_flight)


def choose(sleepers: list[Sleeper], queue: str | None, woken_at: Mapping[str, float]) -> str | None:
    return next_turn(sleepers, queue, {name: Woken(at_s, at_s, None) for name, at_s in woken_at.items()})


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


def test_a_worker_that_is_new_has_its_turn_next():
    assert choose([sleeper("a"), sleeper("new"), sleeper("b")], None, {"a": 5.0, "b": 3.0}) == "new"


def test_a_worker_that_looked_and_has_come_to_rest_keeps_its_turn():
    assert keeps_turn(BEFORE, looks=8, now_s=NOW_S)


def test_a_worker_that_has_not_looked_since_loses_its_turn():
    assert not keeps_turn(BEFORE, looks=7, now_s=NOW_S)


def test_a_worker_that_runs_a_job_loses_its_turn():
    assert not keeps_turn(BEFORE, looks=None, now_s=NOW_S)


def test_a_worker_that_was_woken_while_it_ran_something_has_no_turn():
    assert not keeps_turn(BEFORE._replace(looks=None), looks=8, now_s=NOW_S)


def test_a_turn_ends():
    assert not keeps_turn(BEFORE._replace(turn_s=NOW_S - TURN_S), looks=8, now_s=NOW_S)
