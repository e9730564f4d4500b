"""Whom the master wakes for a job."""

from __future__ import annotations

from collections.abc import Mapping

from soniqd.policy.waking import TURN_S, Sleeper, Woken, keeps_turn, next_turn

NOW_S = 100.0
BEFORE = Woken(NOW_S - 0.02, NOW_S - 0.5, 7, 70)


def sleeper(
    worker_id: str = "a",
    *,
    queues: tuple[str, ...] = (),
    free: int = 1,
    in_flight: int = 0,
    begun: int = 8,
    looks: int = 71,
) -> Sleeper:
    return Sleeper(worker_id, queues, free, in_flight, begun, looks)


def choose(sleepers: list[Sleeper], queue: str | None, woken: Mapping[str, Woken]) -> str | None:
    chosen = next_turn(sleepers, queue, woken, now_s=NOW_S)
    return None if chosen is None else chosen.worker_id


def ago(seconds: float) -> Woken:
    return Woken(NOW_S - seconds, NOW_S - seconds, 7, 70)


def test_a_worker_without_room_is_left_alone():
    assert choose([sleeper("a", free=0)], "mail", {}) is None


def test_a_worker_that_does_not_serve_the_queue_is_left_alone():
    assert choose([sleeper("a", queues=("other",))], "mail", {}) is None


def test_a_worker_of_all_queues_serves_each():
    assert choose([sleeper("a")], "mail", {}) == "a"


def test_the_least_busy_one_is_chosen():
    assert choose([sleeper("a", in_flight=2), sleeper("b", in_flight=1)], None, {}) == "b"


def test_among_equals_the_one_woken_the_longest_ago_is_chosen():
    assert choose([sleeper("a"), sleeper("b")], None, {"a": ago(3), "b": ago(5)}) == "b"


def test_a_worker_that_is_new_has_its_turn_next():
    assert choose([sleeper("a"), sleeper("new"), sleeper("b")], None, {"a": ago(3), "b": ago(5)}) == "new"


def test_a_silent_worker_comes_behind_those_that_run_something():
    assert choose([sleeper("a", looks=70), sleeper("b", in_flight=3)], None, {"a": ago(0.02)}) == "b"


def test_a_worker_that_looked_and_found_nothing_is_not_silent():
    assert choose([sleeper("a", begun=7), sleeper("b", in_flight=3)], None, {"a": ago(0.02)}) == "a"


def test_a_silent_worker_is_better_than_none():
    assert choose([sleeper("a", looks=70)], None, {"a": ago(0.02)}) == "a"


def test_a_silent_worker_is_tried_again():
    assert choose([sleeper("a", looks=70), sleeper("b", in_flight=3)], None, {"a": ago(TURN_S)}) == "a"


def test_a_worker_that_ran_what_it_was_woken_for_keeps_its_turn():
    assert keeps_turn(sleeper(), BEFORE, now_s=NOW_S)


def test_a_worker_that_has_begun_nothing_since_loses_its_turn():
    assert not keeps_turn(sleeper(begun=7), BEFORE, now_s=NOW_S)


def test_a_worker_that_runs_a_job_loses_its_turn():
    assert not keeps_turn(sleeper(in_flight=1), BEFORE, now_s=NOW_S)


def test_a_turn_ends():
    assert not keeps_turn(sleeper(), BEFORE._replace(turn_s=NOW_S - TURN_S), now_s=NOW_S)
