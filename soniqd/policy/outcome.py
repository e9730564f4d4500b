"""What becomes of a job, decided from how its run ended.

============== =========================================================================================
ending         outcome
============== =========================================================================================
Returned       done; a result that cannot be stored was dropped before (the work is not to be done twice)
Deferred       snoozed, no attempt used
Failed         retried while attempts are left and the retry policy names a delay, else a dead letter:
               ``timeout`` or ``max_retries_exceeded`` after the last attempt, ``permanent_failure`` if the
               policy gave up
Unrunnable     dead letter ``invalid_arguments`` at once: no later attempt can go better
Interrupted    released, counted as an interruption
Unstarted      released, counted nowhere
============== =========================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, assert_never

from soniqd.model import ClaimedJob, DeadLettered, Done, Outcome, Released, Retry, Snoozed

MAX_DELAY_S = 365 * 86400.0
"""No job is put off for longer, whatever a handler or a retry policy says."""


class Returned(NamedTuple):
    """The handler returned; None stands for no result."""

    result_json: str | None


@dataclass(frozen=True, slots=True)
class Deferred:
    """The handler asked to be run again later."""

    delay_s: float
    reason: str | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed. ``retry_delay_s`` None: the retry policy gives up."""

    error: str
    retry_delay_s: float | None
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Unrunnable:
    """The handler cannot be called with the job's arguments."""

    error: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A drain cut the run short."""


@dataclass(frozen=True, slots=True)
class Unstarted:
    """The job was claimed and not begun."""


Ending = Returned | Deferred | Failed | Unrunnable | Interrupted | Unstarted


def decide_outcome(job: ClaimedJob, ending: Ending, *, result_ttl_s: float) -> Outcome:
    """Return what to write about a job whose run ended so."""
    if isinstance(ending, Returned):  # most are
        return Done(job.fence, ending.result_json, result_ttl_s)
    match ending:
        case Deferred(delay_s, reason):
            return Snoozed(job.fence, _bounded_s(delay_s), reason)
        case Failed():
            return _after_failure(job, ending)
        case Unrunnable(error):
            return DeadLettered(job.fence, "invalid_arguments", error)
        case Interrupted():
            return Released(job.fence, interrupted=True)
        case Unstarted():
            return Released(job.fence, interrupted=False)
        case _:
            assert_never(ending)


def _after_failure(job: ClaimedJob, failure: Failed) -> Retry | DeadLettered:
    if job.attempts + 1 >= job.max_attempts:
        reason = "timeout" if failure.timed_out else "max_retries_exceeded"
        return DeadLettered(job.fence, reason, failure.error)
    if failure.retry_delay_s is None:
        return DeadLettered(job.fence, "permanent_failure", failure.error)
    return Retry(job.fence, _bounded_s(failure.retry_delay_s), failure.error)


def _bounded_s(delay_s: float) -> float:
    """Cut what is beyond the bounds; NaN, which compares with nothing, becomes 0."""
    return min(delay_s, MAX_DELAY_S) if delay_s > 0 else 0.0
