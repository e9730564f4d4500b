"""Polls: each group's at the interval, whichever of its workers they come from."""

import pytest

from soniqd.policy.polls import until_next_poll_s


def polls_of(turn: int, turns: int, count: int) -> list[float]:
    """When a worker polls that was woken at 0."""
    at = [until_next_poll_s(5, turn=turn, turns=turns, polled=False, random=0.5)]
    while len(at) < count:
        at.append(at[-1] + until_next_poll_s(5, turn=turn, turns=turns, polled=True, random=0.5))
    return at


def test_one_alone_polls_at_the_interval():
    assert polls_of(1, 1, 3) == [5, 10, 15]


def test_two_that_were_woken_together_take_turns():
    assert sorted(polls_of(1, 2, 3) + polls_of(2, 2, 3)) == [5, 10, 15, 20, 25, 30]


@pytest.mark.parametrize(("random", "expected"), [(0.0, 4.5), (1.0, 5.5)])
def test_the_polls_of_many_hosts_do_not_stay_in_step(random, expected):
    assert until_next_poll_s(5, turn=1, turns=1, polled=True, random=random) == pytest.approx(expected)
