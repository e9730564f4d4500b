"""What becomes of a job, from how its run ended."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soniqd.model import ClaimedJob, DeadLettered, Done, Fence, JobId, Released, Retry, Snoozed, WorkerId
from soniqd.policy.outcome import (
    MAX_DELAY_S,
    Deferred,
    Failed,
    Interrupted,
    Returned,
    Unrunnable,
    Unstarted,
    decide_outcome,
)

FENCE = Fence(JobId("j"), WorkerId("w"), 7)


def job(*, attempts: int = 0, max_attempts: int = 3) -> ClaimedJob:
    return ClaimedJob(
        fence=FENCE,
        name="t",
        args_json="{}",
        queue="default",
        priority=100,
        attempts=attempts,
        max_attempts=max_attempts,
        crashes=0,
        scheduled_at=None,
        created_at=None,
    )


def decide(ending, **fields):
    return decide_outcome(job(**fields), ending, result_ttl_s=60)


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [
        (Returned("1"), Done(FENCE, "1", 60)),
        (Returned(None), Done(FENCE, None, 60)),
        (Deferred(5, "busy"), Snoozed(FENCE, 5, "busy")),
        (Unrunnable("bad"), DeadLettered(FENCE, "invalid_arguments", "bad")),
        (Interrupted(), Released(FENCE, interrupted=True)),
        (Unstarted(), Released(FENCE, interrupted=False)),
        (Failed("e", 2.0), Retry(FENCE, 2.0, "e")),
        (Failed("e", None), DeadLettered(FENCE, "permanent_failure", "e")),
    ],
)
def test_each_ending_has_its_outcome(ending, outcome):
    assert decide(ending) == outcome


@pytest.mark.parametrize(("timed_out", "reason"), [(False, "max_retries_exceeded"), (True, "timeout")])
def test_the_last_failed_attempt_makes_a_dead_letter(timed_out, reason):
    ending = Failed("e", 2.0, timed_out=timed_out)
    assert decide(ending, attempts=2) == DeadLettered(FENCE, reason, "e")
    assert isinstance(decide(ending, attempts=1), Retry)


@settings(deadline=None)
@given(
    attempts=st.integers(0, 50),
    max_attempts=st.integers(0, 50),
    delay_s=st.none() | st.floats(allow_nan=True, allow_infinity=True),
)
def test_a_failure_is_retried_only_while_attempts_are_left_and_never_beyond_a_year(attempts, max_attempts, delay_s):
    outcome = decide(Failed("e", delay_s), attempts=attempts, max_attempts=max_attempts)
    assert isinstance(outcome, Retry) == (attempts + 1 < max_attempts and delay_s is not None)
    if isinstance(outcome, Retry):
        assert 0 <= outcome.delay_s <= MAX_DELAY_S


@settings(deadline=None)
@given(delay_s=st.floats(allow_nan=True, allow_infinity=True))
def test_a_snooze_is_always_storable(delay_s):
    outcome = decide(Deferred(delay_s, None))
    assert isinstance(outcome, Snoozed)
    assert 0 <= outcome.delay_s <= MAX_DELAY_S
    assert math.isfinite(outcome.delay_s)
