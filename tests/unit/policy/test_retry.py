from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from soniqd.policy.retry import MAX_RETRY_DELAY_S, RetryRule, next_retry_delay_s


def test_without_a_delay_a_job_is_due_at_once():
    assert next_retry_delay_s(RetryRule(), attempt=1, random=0.9) == 0.0


def test_a_fixed_delay_is_the_same_for_every_retry_and_has_no_jitter():
    rule = RetryRule(delay_s=7.0)
    assert [next_retry_delay_s(rule, attempt=n, random=0.3) for n in (1, 2, 50)] == [7.0, 7.0, 7.0]


def test_the_last_of_several_delays_repeats():
    rule = RetryRule(delay_s=(1.0, 5.0, 30.0))
    assert [next_retry_delay_s(rule, attempt=n, random=0.0) for n in (1, 2, 3, 4, 9)] == [1.0, 5.0, 30.0, 30.0, 30.0]


def test_backoff_doubles_from_the_delay():
    rule = RetryRule(delay_s=3.0, backoff=True, jitter=False)
    assert [next_retry_delay_s(rule, attempt=n, random=0.0) for n in (1, 2, 3)] == [3.0, 6.0, 12.0]


def test_backoff_without_a_delay_starts_at_one_second():
    rule = RetryRule(backoff=True, jitter=False)
    assert [next_retry_delay_s(rule, attempt=n, random=0.0) for n in (1, 2, 3)] == [1.0, 2.0, 4.0]


def test_the_longest_delay_caps_the_backoff():
    rule = RetryRule(delay_s=10.0, backoff=True, max_delay_s=25.0, jitter=False)
    assert [next_retry_delay_s(rule, attempt=n, random=0.0) for n in (1, 2, 3)] == [10.0, 20.0, 25.0]


def test_jitter_takes_a_point_between_half_and_all_of_the_backoff():
    rule = RetryRule(delay_s=8.0, backoff=True)
    assert next_retry_delay_s(rule, attempt=1, random=0.0) == 4.0
    assert next_retry_delay_s(rule, attempt=1, random=0.5) == 6.0


def test_no_sequence_at_all_is_no_delay():
    assert next_retry_delay_s(RetryRule(delay_s=()), attempt=3, random=0.0) == 0.0


@given(
    attempt=st.integers(min_value=0, max_value=10**9),
    random=st.floats(min_value=0, max_value=1, exclude_max=True),
    delay=st.floats(min_value=0, max_value=1e12),
    backoff=st.booleans(),
)
def test_every_delay_can_be_stored_as_a_time(attempt, random, delay, backoff):
    rule = RetryRule(delay_s=delay, backoff=backoff)
    assert 0.0 <= next_retry_delay_s(rule, attempt=attempt, random=random) <= MAX_RETRY_DELAY_S
