"""When dead rows are worth a look, and a vacuum."""

from __future__ import annotations

from dataclasses import replace

import pytest

from soniqd.model.wear import TableWear
from soniqd.policy import vacuuming
from soniqd.policy.vacuuming import VacuumWatch, is_worth_it, removable_rows

WEAR = TableWear(
    live_rows=1_000, dead_rows=100_000, vacuums=3, vacuumed_ago_s=50.0, next_transaction=10_000, horizon=10_000
)
LITTLE = replace(WEAR, dead_rows=100)
HELD = replace(WEAR, horizon=5_000)


@pytest.mark.parametrize(
    ("horizon", "since", "removable"),
    [
        (10_000, None, 100_000),
        (5_000, None, 100_000),
        (10_000, 2_000, 100_000),
        (6_000, 2_000, 50_000),
        (2_000, 2_000, 0),
        (1_000, 2_000, 0),
    ],
)
def test_what_died_after_the_oldest_snapshot_stays(horizon, since, removable):
    assert removable_rows(replace(WEAR, horizon=horizon), since) == removable


@pytest.mark.parametrize(
    ("changes", "worth"),
    [
        ({}, True),
        ({"dead_rows": 20_000}, True),
        ({"dead_rows": 19_999}, False),
        ({"live_rows": 5_000_000}, True),
        ({"live_rows": 5_000_001}, False),
        ({"horizon": 100}, False),
    ],
)
def test_it_is_worth_it_where_many_dead_rows_can_go_also_compared_with_the_living(changes, worth):
    assert is_worth_it(replace(WEAR, **changes), 100) is worth


def test_nobody_looks_where_no_job_ends():
    watch = VacuumWatch()
    assert not watch.wants_look(ended=0, now_s=1e9)
    assert not watch.wants_look(ended=vacuuming.ENDED_FROM - 1, now_s=1e9)
    assert watch.wants_look(ended=vacuuming.ENDED_FROM, now_s=0.0)
    watch.looked(LITTLE, ended=vacuuming.ENDED_FROM, now_s=0.0)
    assert not watch.wants_look(ended=vacuuming.ENDED_FROM, now_s=11.0)


def test_after_jobs_have_ended_there_is_one_more_look_when_the_server_has_counted_them():
    """Its sessions tell late: a burst of 20,000 jobs left none of its dead rows to be seen at its end."""
    watch = VacuumWatch()
    watch.looked(LITTLE, ended=20_000, now_s=0.0)
    assert watch.wants_look(ended=20_000, now_s=12.1)
    watch.looked(LITTLE, ended=20_000, now_s=12.1)
    assert not watch.wants_look(ended=20_000, now_s=1e9)


def test_a_count_that_has_fallen_since_a_child_is_gone_is_a_change_as_well():
    watch = VacuumWatch()
    watch.looked(LITTLE, ended=50_000, now_s=0.0)
    assert watch.wants_look(ended=10, now_s=1.0)


def test_while_dead_rows_are_left_the_next_look_comes_ever_later():
    watch = VacuumWatch()
    now_s, looks = 0.0, []
    watch.looked(HELD, ended=5_000, now_s=now_s)
    while now_s < 400:
        now_s += 1
        if watch.wants_look(ended=5_000, now_s=now_s):
            watch.looked(HELD, ended=5_000, now_s=now_s)
            looks.append(now_s)
    assert looks == [2, 6, 14, 30, 62, 122, 182, 242, 302, 362]


def test_after_a_vacuum_comes_a_rest_of_some_times_what_it_took():
    watch = VacuumWatch()
    assert watch.looked(WEAR, ended=5_000, now_s=100.0)
    watch.vacuumed(WEAR, LITTLE, took_s=0.01, now_s=100.0)
    assert not watch.looked(WEAR, ended=9_000, now_s=101.9)
    later = replace(WEAR, next_transaction=20_000, horizon=20_000)
    assert watch.looked(later, ended=9_000, now_s=102.1)
    watch.vacuumed(later, LITTLE, took_s=3.0, now_s=105.0)
    still_later = replace(WEAR, next_transaction=30_000, horizon=30_000)
    assert not watch.looked(still_later, ended=9_000, now_s=134.9)
    assert watch.looked(still_later, ended=9_000, now_s=135.1)


def test_what_somebody_else_has_just_vacuumed_is_left_alone():
    assert not VacuumWatch().looked(replace(WEAR, vacuumed_ago_s=0.5), ended=0, now_s=100.0)
    assert VacuumWatch().looked(replace(WEAR, vacuumed_ago_s=None), ended=0, now_s=100.0)


def test_while_a_transaction_is_open_there_is_one_vacuum_and_the_next_one_when_it_ends():
    watch = VacuumWatch()
    assert watch.looked(HELD, ended=0, now_s=0.0)
    watch.vacuumed(HELD, replace(HELD, dead_rows=30_000), took_s=0.1, now_s=0.0)
    for number in range(1, 10):
        grown = replace(HELD, dead_rows=30_000 * number, next_transaction=10_000 * number)
        assert not watch.looked(grown, ended=number, now_s=100.0 * number)
    ended = replace(HELD, dead_rows=300_000, next_transaction=100_000, horizon=99_990)
    assert watch.looked(ended, ended=10, now_s=1_000.0)


def test_what_somebody_else_vacuumed_before_is_not_expected_to_go():
    """Autovacuum has removed what could go while a transaction is open: reading it all again would be in vain."""
    watch = VacuumWatch()
    watch.looked(replace(HELD, dead_rows=10_000), ended=0, now_s=0.0)
    assert not watch.looked(replace(HELD, vacuums=4), ended=0, now_s=100.0)


def test_after_a_vacuum_in_vain_the_next_one_comes_as_late_as_autovacuums():
    watch = VacuumWatch()
    assert watch.looked(WEAR, ended=0, now_s=0.0)
    watch.vacuumed(WEAR, replace(WEAR, dead_rows=90_000), took_s=0.1, now_s=0.0)
    later = replace(WEAR, next_transaction=20_000, horizon=20_000)
    assert not watch.looked(later, ended=0, now_s=59.0)
    assert watch.looked(later, ended=0, now_s=61.0)


def test_after_somebody_elses_turn_there_is_a_pause():
    watch = VacuumWatch()
    watch.was_busy(now_s=0.0)
    assert not watch.looked(WEAR, ended=0, now_s=9.0)
    assert watch.looked(WEAR, ended=0, now_s=11.0)


def test_what_fails_again_and_again_is_tried_ever_more_rarely():
    """As it is where the table is too large for the time that a vacuum may take."""
    watch, now_s, rests = VacuumWatch(), 0.0, []
    for _ in range(8):
        watch.failed(now_s=now_s)
        begin_s = now_s
        while not watch.looked(WEAR, ended=0, now_s=now_s):
            now_s += 1
        rests.append(now_s - begin_s)
    assert rests == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    watch.vacuumed(WEAR, LITTLE, took_s=0.1, now_s=now_s)
    watch.failed(now_s=now_s)
    later = replace(WEAR, next_transaction=20_000, horizon=20_000)
    assert watch.looked(later, ended=0, now_s=now_s + 61)


def test_what_fails_for_ever_is_tried_for_ever():
    watch = VacuumWatch()
    for _ in range(2000):
        watch.failed(now_s=0.0)
    assert not watch.looked(WEAR, ended=0, now_s=3599.0)
    assert watch.looked(WEAR, ended=0, now_s=3601.0)
