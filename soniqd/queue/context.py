"""What a handler can learn about its run, and how it asks to be run later."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime


@dataclass(slots=True, unsafe_hash=True)  # frozen would cost three times as much to make, once a job
class JobContext:
    """The run that is going on; handed to a handler that has a parameter annotated with it.

    ``attempt`` counts from 1; the job is a dead letter when attempt ``max_attempts`` fails.
    """

    job_id: str
    job_name: str
    attempt: int
    max_attempts: int
    queue: str
    worker_id: str = ""
    scheduled_at: datetime | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Snooze:
    """Return it from a handler to be run again in ``seconds``, without using up an attempt."""

    seconds: float
    reason: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.seconds, bool) or not isinstance(self.seconds, int | float):
            raise TypeError(f"cannot snooze: seconds must be a number, not {self.seconds!r}")
        if not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise ValueError(f"cannot snooze: seconds must be zero or more, not {self.seconds!r}")
