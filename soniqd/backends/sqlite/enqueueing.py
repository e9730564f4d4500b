"""Storing jobs, and finding the queued twin that stands for one that was not stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from soniqd.backends.sqlite.transaction import Transaction, as_json
from soniqd.model import JobId, NewJob


def store_jobs(tx: Transaction, jobs: Sequence[NewJob]) -> list[tuple[JobId, bool]]:
    """Store jobs in order; return for each the id that stands for it, and whether it was stored now."""
    stored = tx.run_rows("insert_jobs", [_row(job, tx.now) for job in jobs])
    if stored == len(jobs):
        answers = [(job.id, True) for job in jobs]
    else:
        found = frozenset(tx.array("stored_ids", (as_json([job.id for job in jobs]),)))
        answers = [(job.id, True) if job.id in found else (_twin(tx, job), False) for job in jobs]
    _announce(tx, [job for job, (_, new) in zip(jobs, answers, strict=True) if new])
    return answers


def _row(job: NewJob, now: float) -> tuple[Any, ...]:
    due_at = _due_at(job, now)
    is_later = due_at is not None and due_at > now
    return (
        job.id,
        job.name,
        job.args_json,
        job.args_hash,
        job.queue,
        job.priority,
        job.max_attempts,
        job.unique,
        job.dedup_key,
        due_at if is_later else None,
        None if is_later else due_at,
        job.producer_id,
        now,
        now,
    )


def _due_at(job: NewJob, now: float) -> float | None:
    if job.run_at is not None:
        return job.run_at.timestamp()
    return None if job.delay_s is None else now + job.delay_s


def _twin(tx: Transaction, job: NewJob) -> JobId:
    twin = tx.value("dedup_twin", (job.dedup_key,)) if job.dedup_key is not None else None
    if twin is None:
        twin = tx.value("unique_twin", (job.name, job.args_hash))
    return JobId(twin)


def _announce(tx: Transaction, jobs: Sequence[NewJob]) -> None:
    for job in jobs:
        due_at = _due_at(job, tx.now)
        if due_at is not None and due_at > tx.now:
            tx.wake_later(due_at)
        else:
            tx.wake(job.queue)
