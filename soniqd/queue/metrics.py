"""Where a worker reports each run, for an application's own metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Literal, Protocol

from soniqd.log import catalogue, emit
from soniqd.queue.answers import left_of

EndStatus = Literal["done", "failed", "dead_letter", "snoozed", "cancelled"]
"""``failed`` is followed by a retry; ``cancelled`` is a run that a drain cut short."""


class MetricsSink(Protocol):
    """Receives one call before and one after each run. The methods may also be plain functions.

    What they raise is logged and changes nothing about the job; they are waited for as long as hooks.
    """

    async def record_job_start(self, *, job_id: str, job_name: str, queue: str, attempt: int) -> None: ...

    async def record_job_end(
        self, *, job_id: str, job_name: str, queue: str, status: str, duration_s: float, error: str | None = None
    ) -> None: ...


class NullMetricsSink:
    """Counts nothing."""

    async def record_job_start(self, *, job_id: str, job_name: str, queue: str, attempt: int) -> None:
        """Do nothing."""

    async def record_job_end(
        self, *, job_id: str, job_name: str, queue: str, status: str, duration_s: float, error: str | None = None
    ) -> None:
        """Do nothing."""


class GuardedMetrics:
    """Calls a sink so that whatever it raises is logged and changes nothing about the job.

    What of it waits, is waited for as long as ``limit_s``. ``active`` is false for the null sink, so that a worker can
    save the calls.
    """

    __slots__ = ("_limit_s", "_sink", "active")

    def __init__(self, sink: MetricsSink, *, limit_s: float = 10.0) -> None:
        self._sink = sink
        self._limit_s = limit_s
        self.active = not isinstance(sink, NullMetricsSink)

    # Each runs the sink as far as it gets without waiting, and returns what is left to be awaited, if anything.

    def job_started(self, job_id: str, job_name: str, queue: str, attempt: int) -> Awaitable[None] | None:
        try:
            answer: Any = self._sink.record_job_start(job_id=job_id, job_name=job_name, queue=queue, attempt=attempt)
            if answer is None or (left := left_of(answer)) is None:
                return None
        except BaseException as error:  # noqa: BLE001  the sink is the application's, the job is not to suffer from it
            _report("record_job_start", error, job_id=job_id, job_name=job_name)
            return None
        return self._await(left, "record_job_start", job_id=job_id, job_name=job_name)

    def job_ended(
        self, job_id: str, job_name: str, queue: str, status: EndStatus, duration_s: float, *, error: str | None = None
    ) -> Awaitable[None] | None:
        try:
            answer: Any = self._sink.record_job_end(
                job_id=job_id, job_name=job_name, queue=queue, status=status, duration_s=duration_s, error=error
            )
            if answer is None or (left := left_of(answer)) is None:
                return None
        except BaseException as broken:  # noqa: BLE001  see above
            _report("record_job_end", broken, job_id=job_id, job_name=job_name)
            return None
        return self._await(left, "record_job_end", job_id=job_id, job_name=job_name)

    async def _await(self, left: Awaitable[object], method: str, *, job_id: str, job_name: str) -> None:
        task = asyncio.current_task()
        try:
            async with asyncio.timeout(self._limit_s):
                await left
        except GeneratorExit:
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise  # it is the job, or the worker, that is to end
            _report(method, error, job_id=job_id, job_name=job_name)


def _report(method: str, error: BaseException, *, job_id: str, job_name: str) -> None:
    emit(
        catalogue.METRICS_SINK_FAILED,
        exc_info=error,
        job_id=job_id,
        job_name=job_name,
        method=method,
        error=f"{type(error).__name__}: {error}",
    )
