"""Storing jobs, and finding the queued twin that stands for one that was not stored."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, repeat
from operator import attrgetter
from typing import Any

from soniqd.backends.sqlite.transaction import Transaction, as_json
from soniqd.model import JobId, NewJob


def store_jobs(tx: Transaction, jobs: Sequence[NewJob]) -> list[tuple[JobId, bool]]:
    """Store jobs in order; return for each the id that stands for it, and whether it was stored now."""
    if _are_alike(jobs):
        return _store_alike(tx, jobs)
    return [answer for _, alike in groupby(jobs, _common) for answer in _store_alike(tx, list(alike))]


_COMMON = ("name", "queue", "priority", "max_attempts", "unique", "producer_id", "run_at", "delay_s")
_common = attrgetter(*_COMMON)
_places = [NewJob._fields.index(name) for name in _COMMON]
_own = attrgetter("id", "args_json", "args_hash", "dedup_key")
_plain = attrgetter("id", "args_json")
_id, _hash, _key = attrgetter("id"), attrgetter("args_hash"), attrgetter("dedup_key")


def _are_alike(jobs: Sequence[NewJob]) -> bool:
    """Compare by column, which takes a fifth of the time that it takes by job."""
    if len(jobs) == 1:
        return True
    columns = list(zip(*jobs, strict=True))
    return all(columns[place].count(columns[place][0]) == len(jobs) for place in _places)


def _store_alike(tx: Transaction, jobs: Sequence[NewJob]) -> list[tuple[JobId, bool]]:
    """Store jobs of one task: what they have in common goes to SQLite once."""
    *common, _, _ = _common(jobs[0])
    scheduled_at, due_at = _times(jobs[0], tx.now)
    stored = _insert(tx, jobs, [*common, scheduled_at, due_at, tx.now, tx.now])
    if stored and scheduled_at is None:
        tx.wake(jobs[0].queue)
    elif stored and scheduled_at is not None:
        tx.wake_later(scheduled_at)
    if stored == len(jobs):
        return list(zip(map(_id, jobs), repeat(True)))
    found = frozenset(tx.array("stored_ids", (as_json([job.id for job in jobs]),)))
    return [(job.id, True) if job.id in found else (_twin(tx, job), False) for job in jobs]


def _insert(tx: Transaction, jobs: Sequence[NewJob], common: Sequence[Any]) -> int:
    keyed = any(map(_hash, jobs)) or any(map(_key, jobs))
    if keyed:
        return tx.run_rows("insert_jobs", list(map(_own, jobs)), common)
    return tx.run_rows("insert_plain_jobs", list(map(_plain, jobs)), common)


def _times(job: NewJob, now: float) -> tuple[float | None, float | None]:
    """Return scheduled_at, for a job whose time is to come, or else due_at; neither for one without a time."""
    if job.run_at is None and job.delay_s is None:
        return None, None
    due_at = job.run_at.timestamp() if job.run_at is not None else now + (job.delay_s or 0.0)
    return (due_at, None) if due_at > now else (None, due_at)


def _twin(tx: Transaction, job: NewJob) -> JobId:
    twin = tx.value("dedup_twin", (job.dedup_key,)) if job.dedup_key is not None else None
    if twin is None:
        twin = tx.value("unique_twin", (job.name, job.args_hash))
    return JobId(twin)
