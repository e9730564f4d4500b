"""Who decides about the next attempt: the task's own rule, or the application's policy."""

from __future__ import annotations

import random
from typing import Protocol

from soniqd.policy.retry import next_retry_delay_s
from soniqd.queue.registry import Task


class RetryPolicy(Protocol):
    """Chooses the delay before the next attempt; None gives up at once, whatever attempts are left."""

    def delay_s(self, *, task: Task, attempt: int, error: BaseException) -> float | None:
        """Answer for retry number ``attempt`` (1 is the first) after ``error``. Called on the event loop."""


class TaskRetryPolicy:
    """Follows each task's ``retry`` rule."""

    def delay_s(self, *, task: Task, attempt: int, error: BaseException) -> float | None:  # noqa: ARG002  the protocol's
        return next_retry_delay_s(task.retry, attempt=attempt, random=random.random())  # noqa: S311  spreads load only
