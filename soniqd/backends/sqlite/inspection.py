"""Looking at jobs and queues: the reading half of the protocol's JobStore."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from soniqd.backends.protocol import JobFilter, QueueRecord
from soniqd.backends.records import job_record
from soniqd.backends.sqlite.access import Access
from soniqd.backends.sqlite.statements import statements
from soniqd.model import JobId, JobRecord, JobStatus, QueueStats


class SQLiteInspection:
    """Questions, answered by the reader's thread."""

    _access: Access

    async def get_job(self, job_id: JobId) -> JobRecord | None:
        found = await self._access.read(lambda db: _find_jobs(db, {"id": job_id}, limit=1, offset=0))
        return found[0] if found else None

    async def list_jobs(self, where: JobFilter) -> list[JobRecord]:
        equal = {
            "queue": where.queue,
            "status": where.status,
            "job_name": where.name,
            "worker_id": where.worker_id,
        }
        return await self._access.read(lambda db: _find_jobs(db, equal, limit=where.limit, offset=where.offset))

    async def queue_stats(self) -> list[QueueStats]:
        return await self._access.read(_queue_stats)

    async def list_queues(self) -> list[QueueRecord]:
        now = self._access.now()
        return await self._access.read(lambda db: _list_queues(db, now))

    async def unclaimable_names(self, *, limit: int = 50) -> Mapping[str, int]:
        return await self._access.read(lambda db: dict(rows(db, "unclaimable_names", (limit,))))


def rows(db: sqlite3.Connection, name: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
    """Return the rows of a named statement, as tuples."""
    return db.execute(statements()[name], parameters).fetchall()


def mappings(
    db: sqlite3.Connection,
    name: str,
    parameters: Sequence[Any] | Mapping[str, Any] = (),
    *,
    where: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Return the rows of a named statement by column; ``where`` are conditions that all hold."""
    text = statements()[name].replace("{where}", " AND ".join(where) or "1")
    cursor = db.execute(text, parameters)
    columns = [column[0] for column in cursor.description]
    return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]


def _find_jobs(db: sqlite3.Connection, equal: Mapping[str, str | None], *, limit: int, offset: int) -> list[JobRecord]:
    given = {column: value for column, value in equal.items() if value is not None}
    conditions = [f"{column} = :{column}" for column in given]
    found = mappings(db, "find_jobs", {**given, "limit": limit, "offset": offset}, where=conditions)
    return [job_record(row) for row in found]


def _queue_stats(db: sqlite3.Connection) -> list[QueueStats]:
    return [_stats(queue, found.counts) for queue, found in _count(db).items()]


def _list_queues(db: sqlite3.Connection, now: float) -> list[QueueRecord]:
    found = _count(db)
    paused = {row[0] for row in rows(db, "paused_queues")}
    return [
        _queue_record(name, found.get(name) or _Counted(), paused=name in paused, now=now)
        for name in sorted(found.keys() | paused)
    ]


@dataclass(slots=True)
class _Counted:
    """One queue's jobs by status, and when the oldest claimable one was stored."""

    counts: Counter[str] = field(default_factory=Counter)
    oldest: float | None = None


def _count(db: sqlite3.Connection) -> dict[str, _Counted]:
    found: dict[str, _Counted] = {}
    for queue, status, count, oldest in sorted(rows(db, "counts"), key=itemgetter(0)):
        counted = found.setdefault(queue, _Counted())
        counted.counts[status] += count
        counted.oldest = oldest if counted.oldest is None else counted.oldest
    return found


def _queue_record(name: str, counted: _Counted, *, paused: bool, now: float) -> QueueRecord:
    age_s = None if counted.oldest is None else max(0.0, now - counted.oldest)
    return QueueRecord(name, paused, _stats(name, counted.counts), age_s)


def _stats(queue: str, counts: Counter[str]) -> QueueStats:
    return QueueStats(
        queue=queue,
        total=counts.total(),
        queued=counts[JobStatus.QUEUED],
        processing=counts[JobStatus.PROCESSING],
        done=counts[JobStatus.DONE],
        dead_letter=counts[JobStatus.DEAD_LETTER],
        cancelled=counts[JobStatus.CANCELLED],
    )
