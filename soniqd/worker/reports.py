"""What is told about outcomes once the database has them: counts, log lines, the application's metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from soniqd.log import catalogue, emit
from soniqd.model import DeadLettered, Done, Outcome, Released, Retry, Snoozed
from soniqd.queue.metrics import EndStatus, GuardedMetrics
from soniqd.worker.completer import Entry
from soniqd.worker.run import Run

_SINK_S = 10.0  # how long an application's sink may hold up the end of a worker

_STATUS: dict[type[Outcome], EndStatus] = {
    Done: "done",
    Retry: "failed",
    DeadLettered: "dead_letter",
    Snoozed: "snoozed",
    Released: "cancelled",
}


class Reports:
    """Counts ``done`` and ``failed`` runs (a failed attempt counts, whether or not another one follows)."""

    def __init__(self, metrics: GuardedMetrics) -> None:
        self._metrics = metrics
        self._sending: set[asyncio.Task[None]] = set()
        self.done = 0
        self.failed = 0

    def written(self, entries: Sequence[Entry]) -> float | None:
        """Report a batch; return in how many seconds the first of its jobs is due again."""
        due_in_s: float | None = None
        for outcome, run in entries:
            if type(outcome) is Done:
                self.done += 1
                continue
            if isinstance(outcome, Retry | Snoozed):
                due_in_s = outcome.delay_s if due_in_s is None else min(due_in_s, outcome.delay_s)
            if run is not None:
                self._report(outcome, run)
        if self._metrics.active:
            task = asyncio.get_running_loop().create_task(self._send(entries))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        return due_in_s

    async def close(self) -> None:
        """Wait for the sink, within reason."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=_SINK_S)
        for task in self._sending:
            task.cancel()

    def _report(self, outcome: Outcome, run: Run) -> None:
        fields: dict[str, Any] = {"job_id": outcome.fence.job_id, "job_name": run.job.name, "queue": run.job.queue}
        match outcome:
            case Retry(_, delay_s, error):
                self.failed += 1
                emit(
                    catalogue.JOB_RETRIED,
                    **fields,
                    attempt=run.job.attempts + 1,
                    max_attempts=run.job.max_attempts,
                    delay_s=delay_s,
                    error=_first_line(error),
                )
            case DeadLettered(_, reason, error):
                self.failed += 1
                emit(catalogue.JOB_DEAD_LETTERED, **fields, reason=reason, error=_first_line(error))
            case Released(interrupted=True):
                emit(catalogue.JOB_INTERRUPTED, **fields)

    async def _send(self, entries: Sequence[Entry]) -> None:
        job_ended = self._metrics.job_ended
        for outcome, run in entries:
            if run is None:
                continue
            job, took_s = run.job, run.ended_at - run.started_at
            kind = type(outcome)
            error = None if kind is Done else _error_of(outcome)
            left = job_ended(job.fence.job_id, job.name, job.queue, _STATUS[kind], took_s, error=error)
            if left is not None:
                await left


def _error_of(outcome: Outcome) -> str | None:
    return _first_line(outcome.error) if isinstance(outcome, Retry | DeadLettered) else None


def _first_line(error: str) -> str:
    return error.partition("\n")[0]
