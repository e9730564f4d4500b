"""Storing jobs, and finding the queued twin that stands for one that was not stored."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from soniqd.backends.sqlite.transaction import Transaction, as_json
from soniqd.model import JobId, NewJob


def store_jobs(tx: Transaction, jobs: Sequence[NewJob]) -> list[tuple[JobId, bool]]:
    """Store jobs in order; return for each the id that stands for it, and whether it was stored now."""
    stored = tx.run_rows("insert_jobs", _rows(jobs, tx.now))
    if stored == len(jobs):
        _announce(tx, jobs)
        return [(job.id, True) for job in jobs]
    found = frozenset(tx.array("stored_ids", (as_json([job.id for job in jobs]),)))
    _announce(tx, [job for job in jobs if job.id in found])
    return [(job.id, True) if job.id in found else (_twin(tx, job), False) for job in jobs]


def _rows(jobs: Sequence[NewJob], now: float) -> list[tuple[Any, ...]]:
    at_once = (None, None, now, now)
    return [_fields(job) + (at_once if _is_for_now(job) else (*_times(job, now), now, now)) for job in jobs]


_fields = attrgetter(
    "id",
    "name",
    "args_json",
    "args_hash",
    "queue",
    "priority",
    "max_attempts",
    "unique",
    "dedup_key",
    "producer_id",
)


def _is_for_now(job: NewJob) -> bool:
    return job.run_at is None and job.delay_s is None


def _times(job: NewJob, now: float) -> tuple[float | None, float | None]:
    """Return scheduled_at, for a job whose time is to come, or else due_at."""
    due_at = job.run_at.timestamp() if job.run_at is not None else now + (job.delay_s or 0.0)
    return (due_at, None) if due_at > now else (None, due_at)


def _twin(tx: Transaction, job: NewJob) -> JobId:
    twin = tx.value("dedup_twin", (job.dedup_key,)) if job.dedup_key is not None else None
    if twin is None:
        twin = tx.value("unique_twin", (job.name, job.args_hash))
    return JobId(twin)


def _announce(tx: Transaction, jobs: Sequence[NewJob]) -> None:
    for job in jobs:
        scheduled_at = None if _is_for_now(job) else _times(job, tx.now)[0]
        if scheduled_at is None:
            tx.wake(job.queue)
        else:
            tx.wake_later(scheduled_at)
