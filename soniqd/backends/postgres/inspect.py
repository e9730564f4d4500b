"""Looking at jobs and queues, and the few things that people do to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from soniqd.backends.postgres.database import Database, Transaction
from soniqd.backends.postgres.statements import SQL
from soniqd.backends.records import CANCELLED_KEPT_S, job_record
from soniqd.backends.values import CancelResult, JobFilter, QueueRecord
from soniqd.model import JobId, JobRecord, QueueStats

COUNTED_EXACTLY = 100_000
"""Rows of a table that are counted one by one; of a larger one the counts are estimates."""

_SAMPLED_PAGES = 1_000
_SAMPLES = {
    "soniq_jobs": SQL["sample_jobs"],
    "soniq_finished_jobs": SQL["sample_finished"],
    "soniq_dead_letter_jobs": SQL["sample_dead"],
}


class PostgresInspect:
    """The protocol's methods for people."""

    _database: Database

    async def get_job(self, job_id: JobId) -> JobRecord | None:
        rows = await self._database.fetch(SQL["get_job"], {"id": job_id}, rows="dict", repeat=True)
        return job_record(rows[0]) if rows else None

    async def list_jobs(self, where: JobFilter) -> list[JobRecord]:
        parameters = {
            "queue": where.queue,
            "status": where.status,
            "name": where.name,
            "worker_id": where.worker_id,
            "limit": where.limit,
            "offset": where.offset,
        }
        return [job_record(row) for row in await self._database.examine(SQL["list_jobs"], parameters)]

    async def cancel_job(self, job_id: JobId) -> CancelResult:
        parameters = {"id": job_id, "kept_s": CANCELLED_KEPT_S}
        [(cancelled, status)] = await self._database.fetch(SQL["cancel_job"], parameters)
        if cancelled:
            return "cancelled"
        # Still queued in the statement's snapshot, and yet not there to be cancelled: it was claimed just now.
        results: dict[str | None, CancelResult] = {None: "missing", "queued": "processing", "processing": "processing"}
        return results.get(status, "finished")

    async def delete_job(self, job_id: JobId) -> bool:
        [(deleted,)] = await self._database.fetch(SQL["delete_job"], {"id": job_id})
        return bool(deleted)

    async def queue_stats(self) -> list[QueueStats]:
        counted = await self._count()
        return [_stats(queue, counted.counts[queue]) for queue in sorted(counted.counts)]

    async def list_queues(self) -> list[QueueRecord]:
        counted = await self._count()
        paused = {row[0] for row in await self._database.fetch(SQL["paused_queues"], {}, repeat=True)}
        return [
            QueueRecord(
                name,
                name in paused,
                _stats(name, counted.counts.get(name, Counter())),
                counted.oldest_s.get(name),
                estimated=bool(counted.estimated),
            )
            for name in sorted(counted.counts.keys() | paused)
        ]

    async def set_queue_paused(self, queue: str, *, paused: bool) -> bool:
        statement = SQL["pause_queue"] if paused else SQL["resume_queue"]
        return bool(await self._database.fetch(statement, {"queue": queue}))

    async def _count(self) -> _Counted:
        """Count every job, or, of tables that are too large for that, estimate from a sample of their pages."""
        async with self._database.transaction("count the jobs", free_planner=True) as transaction:
            rows = await transaction.fetch_dicts(SQL["queue_stats"], {"counted": COUNTED_EXACTLY + 1})
            estimated = {row["place"] for row in rows if not row["whole"]}
            samples = {place: await self._sample(transaction, place) for place in sorted(estimated)}
        counted = _Counted(estimated=frozenset(estimated))
        for row in rows:
            found = row["count"]
            if (sample := samples.get(row["place"])) is not None:
                found = max(found, sample.pop((row["queue"], row["status"]), 0))
            counted.add(row["queue"], row["status"], found, row["oldest_s"])
        for sample in samples.values():
            for (queue, status), found in sample.items():
                counted.add(queue, status, found, None)
        return counted

    async def _sample(self, transaction: Transaction, table: str) -> dict[tuple[str, str], int]:
        [(pages,)] = await transaction.fetch(SQL["count_pages"], {"table": table})
        parameters = {"share": min(100.0, 100.0 * _SAMPLED_PAGES / max(1, pages))}
        rows = await transaction.fetch_dicts(_SAMPLES[table], parameters)
        return {(row["queue"], row["status"]): row["count"] for row in rows}


@dataclass(slots=True)
class _Counted:
    """Counts by queue and status, and for how long the oldest claimable job of a queue waits."""

    estimated: frozenset[str]
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    oldest_s: dict[str, float] = field(default_factory=dict)

    def add(self, queue: str, status: str, number: int, oldest_s: float | None) -> None:
        self.counts.setdefault(queue, Counter())[status] += number
        if oldest_s is not None:
            self.oldest_s[queue] = max(0.0, oldest_s)


def _stats(queue: str, counts: Mapping[str, int]) -> QueueStats:
    return QueueStats(
        queue=queue,
        total=sum(counts.values()),
        queued=counts.get("queued", 0),
        processing=counts.get("processing", 0),
        done=counts.get("done", 0),
        dead_letter=counts.get("dead_letter", 0),
        cancelled=counts.get("cancelled", 0),
    )
