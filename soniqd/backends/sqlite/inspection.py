"""Looking at jobs and queues: the reading half of the protocol's JobStore."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from soniqd.backends.records import job_record
from soniqd.backends.sqlite.access import Access
from soniqd.backends.sqlite.statements import statements
from soniqd.backends.values import JobFilter
from soniqd.model import JobId, JobRecord, JobStatus, QueueStats


class SQLiteInspection:
    """Questions, answered by the reader's thread."""

    _access: Access

    async def get_job(self, job_id: JobId) -> JobRecord | None:
        found = await self._access.read(lambda db: find_jobs(db, {"id": job_id}, most=1))
        return found[0] if found else None

    async def list_jobs(self, where: JobFilter) -> list[JobRecord]:
        equal = {
            "queue": where.queue,
            "status": where.status,
            "job_name": where.name,
            "worker_id": where.worker_id,
        }
        most = where.limit + where.offset
        found = await self._access.read(lambda db: find_jobs(db, equal, most=most))
        return found[where.offset : most]

    async def queue_stats(self) -> list[QueueStats]:
        counts = await self._access.read(count_jobs)
        return [queue_stats(queue, counts[queue]) for queue in sorted(counts)]


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


def find_jobs(db: sqlite3.Connection, equal: Mapping[str, str | None], *, most: int) -> list[JobRecord]:
    """Return jobs wherever they are, newest first. Places that the counts show to hold none are not looked at."""
    given = {column: value for column, value in equal.items() if value is not None}
    conditions = [f"{column} = :{column}" for column in given]
    found: list[dict[str, Any]] = []
    db.execute("BEGIN")  # a job that moves meanwhile is found once
    try:
        for name, count in _places(db, given):
            found += mappings(db, name, {**given, "most": min(most, count)}, where=conditions)
    finally:
        db.execute("COMMIT")
    found.sort(key=itemgetter("created_at", "seq"), reverse=True)
    return [job_record(row) for row in found[:most]]


def _places(db: sqlite3.Connection, given: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Name the statements that can find something, and how much that is at most."""
    counts = count_jobs(db)
    queues = [given["queue"]] if "queue" in given else list(counts)
    holds = "worker_id" in given or given.get("status") == "processing"
    for name, statuses in _STATUSES.items():
        wanted = [status for status in statuses if given.get("status", status) == status]
        count = sum(counts[queue][status] for queue in queues if queue in counts for status in wanted)
        if count:
            yield "held_jobs" if holds and name == "hot_jobs" else name, count


_STATUSES: dict[str, tuple[str, ...]] = {
    "hot_jobs": ("queued", "processing"),
    "finished_jobs": ("done", "cancelled"),
    "dead_jobs": ("dead_letter",),
}


def count_jobs(db: sqlite3.Connection) -> dict[str, Counter[str]]:
    """Return the counts of each queue by status."""
    found: dict[str, Counter[str]] = {}
    for queue, status, count in rows(db, "counts"):
        found.setdefault(queue, Counter())[status] = count
    return found


def queue_stats(queue: str, counts: Counter[str]) -> QueueStats:
    """Word the counts of one queue."""
    return QueueStats(
        queue=queue,
        total=counts.total(),
        queued=counts[JobStatus.QUEUED],
        processing=counts[JobStatus.PROCESSING],
        done=counts[JobStatus.DONE],
        dead_letter=counts[JobStatus.DEAD_LETTER],
        cancelled=counts[JobStatus.CANCELLED],
    )
