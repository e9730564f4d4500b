"""When a place that lost its child gets the next one."""

from __future__ import annotations

from dataclasses import dataclass

BACKOFF_BASE_S = 0.5
BACKOFF_MAX_S = 30.0
STABLE_AFTER_S = 10.0
"""A child that was ready for this long has started well: its crash is a new story, not one more of the old."""
CRASH_LOOP_AT = 5
"""Crashes in a row, none of them after a stable time, that a person should hear of."""


@dataclass(frozen=True, slots=True)
class RestartDecision:
    """``failures`` in a row including this one; ``crash_loop`` is true once, at the crash that makes it a loop."""

    delay_s: float
    failures: int
    crash_loop: bool


def decide_restart(*, failures_before: int, ready_for_s: float | None, clean: bool, random: float) -> RestartDecision:
    """Decide the delay before the next start; ``ready_for_s`` is None if the child never got ready."""
    stable = ready_for_s is not None and ready_for_s >= STABLE_AFTER_S
    if stable and clean:
        return RestartDecision(0.0, 0, crash_loop=False)
    failures = 1 if stable else failures_before + 1
    return RestartDecision(next_delay_s(failures, random=random), failures, crash_loop=failures == CRASH_LOOP_AT)


def next_delay_s(failures: int, *, random: float) -> float:
    """Return 0 for the first failure, then a doubling delay, spread by a quarter either way (``random`` in [0, 1))."""
    if failures <= 1:
        return 0.0
    plain = min(BACKOFF_BASE_S * 2.0 ** min(failures - 2, 16), BACKOFF_MAX_S)
    return plain * (0.75 + random / 2)
