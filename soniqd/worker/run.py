"""One job's run: what is known about it before, and what becomes known on the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from soniqd.model import ClaimedJob
from soniqd.policy.outcome import Ending
from soniqd.queue.context import JobContext
from soniqd.queue.registry import Task


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known about all runs of a task. ``timeout_s`` 0 is no limit."""

    task: Task
    handler: Callable[..., Any]
    is_async: bool
    timeout_s: float
    wants_context: bool
    wants_nothing: bool
    """It can be called without arguments, so that ``{}`` need not be read."""

    @classmethod
    def of(cls, task: Task, *, default_timeout_s: float) -> Plan:
        signature = task.signature
        context = task.context_parameter is not None
        return cls(
            task=task,
            handler=task.handler,
            is_async=task.is_async,
            timeout_s=default_timeout_s if task.timeout_s is None else task.timeout_s,
            wants_context=context,
            wants_nothing=(
                not context and task.args_model is None and signature is not None and not signature.required
            ),
        )


class Run:
    """A job on its way through the steps. ``ending`` is set once the handler has ended, before its hooks.

    What most runs never set belongs to the class until they do: a run is made for each job.
    """

    handle: asyncio.Task[None] | None = None
    slot: int | None = None
    begun = False
    in_thread = False
    timed_out = False
    interrupted = False
    abandoned = False
    error: BaseException | None = None
    context: JobContext | None = None
    ending: Ending | None = None
    ended_at = 0.0

    def __init__(self, job: ClaimedJob, plan: Plan) -> None:
        self.job = job
        self.plan = plan
        self.started_at = time.monotonic()

    def interrupt(self) -> None:
        """Cut it short. A handler that has ended already only loses its hooks; one in a thread is not reached."""
        self.interrupted = True
        # Cancelling a task before its first step would end it without running any of our code.
        if self.handle is not None and self.begun and not self.in_thread:
            self.handle.cancel()
