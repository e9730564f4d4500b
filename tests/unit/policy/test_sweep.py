"""A host judges others only after it has been regular itself."""

from __future__ import annotations

from soniqd.policy.sweep import RECONNECT_S, BeatRecord

NEEDED_S = 3 * 5 + RECONNECT_S


def beating(until_s: float, *, start_s: float = 1000.0) -> BeatRecord:
    record = BeatRecord(5.0)
    at = start_s
    while at <= until_s:
        record.beat(at)
        at += 5.0
    return record


def test_nobody_sweeps_at_the_start():
    assert BeatRecord(5.0).steady_in_s(1000.0) == NEEDED_S


def test_regular_beats_earn_the_sweep():
    record = beating(1020.0)
    assert record.steady_in_s(1001.0) > 0
    assert record.steady_in_s(1020.0) <= 0


def test_a_failed_beat_starts_the_wait_anew():
    record = beating(1020.0)
    record.missed()
    assert record.steady_in_s(1021.0) == NEEDED_S
    record.beat(1025.0)
    assert record.steady_in_s(1025.0) == NEEDED_S


def test_a_pause_of_this_process_is_noticed_before_the_next_beat():
    assert beating(1020.0).steady_in_s(1400.0) == NEEDED_S


def test_a_late_beat_starts_the_wait_anew():
    record = beating(1020.0)
    record.beat(1400.0)
    assert record.steady_in_s(1401.0) > 0
