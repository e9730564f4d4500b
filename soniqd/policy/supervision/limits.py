"""What a child may run, live and hold before it is replaced."""

from __future__ import annotations

from soniqd.model.child import Recycling
from soniqd.policy.supervision.events import Usage

SPREAD = 0.1
"""Each child's limits are up to this part above or below those of its group, or all would reach them together."""


def spread_limits(limits: Recycling, *, random: float) -> Recycling:
    """Return one child's own limits; ``random`` is in [0, 1)."""
    factor = 1 - SPREAD + 2 * SPREAD * random
    return Recycling(
        max_jobs=max(1, round(limits.max_jobs * factor)) if limits.max_jobs else 0,
        max_age_s=limits.max_age_s * factor,
        max_memory_bytes=round(limits.max_memory_bytes * factor),
    )


def reached_limit(limits: Recycling, *, age_s: float, usage: Usage | None) -> str:
    """Say in words which limit a child has reached; "" for none.

    Memory counts from the first job on: what a child holds before it, the next one would hold, too, and a limit that is
    too small would replace idle children without end.
    """
    if 0 < limits.max_age_s <= age_s:
        return f"{age_s:.0f} s"
    if usage is None:
        return ""
    runs = usage.done + usage.failed
    if 0 < limits.max_jobs <= runs:
        return f"{runs} runs"
    if runs and usage.memory_bytes is not None and 0 < limits.max_memory_bytes <= usage.memory_bytes:
        return f"{runs} runs with {usage.memory_bytes / 10**6:.0f} MB of memory"
    return ""
