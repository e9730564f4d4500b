"""When a failed attempt is tried again."""

from __future__ import annotations

from dataclasses import dataclass

MAX_RETRY_DELAY_S = 365 * 86400.0
"""No delay is longer: doubling without a limit would leave what the databases can store as a time."""

_MAX_EXPONENT = 60  # 2.0 ** 60 is far beyond MAX_RETRY_DELAY_S, and far from overflowing


@dataclass(frozen=True, slots=True)
class RetryRule:
    """What a task says about its retries.

    ``delay_s`` is the delay of every retry, or one delay a retry (the last one repeats). ``backoff`` doubles it with
    each retry (a delay of 0 counts as 1), up to ``max_delay_s``; ``jitter`` then takes a point between its half and
    all of it, so that jobs that failed together do not come back together. Without ``backoff`` there is no jitter.
    """

    delay_s: float | tuple[float, ...] = 0.0
    backoff: bool = False
    max_delay_s: float | None = None
    jitter: bool = True


def next_retry_delay_s(rule: RetryRule, *, attempt: int, random: float) -> float:
    """Return the delay before retry number ``attempt`` (1 is the first); ``random`` is in [0, 1)."""
    delay_s = _stated_delay_s(rule.delay_s, attempt)
    if rule.backoff:
        delay_s = (delay_s or 1.0) * 2.0 ** min(max(attempt - 1, 0), _MAX_EXPONENT)
    delay_s = min(delay_s, MAX_RETRY_DELAY_S if rule.max_delay_s is None else rule.max_delay_s)
    if rule.backoff and rule.jitter:
        delay_s *= 0.5 + random / 2
    return delay_s


def _stated_delay_s(stated: float | tuple[float, ...], attempt: int) -> float:
    if not isinstance(stated, tuple):
        return stated
    if not stated:
        return 0.0
    return stated[min(max(attempt, 1), len(stated)) - 1]
