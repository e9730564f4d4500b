"""Looking at jobs and queues, and the few things that people do to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from soniqd.backends.postgres.database import Database
from soniqd.backends.postgres.statements import SQL
from soniqd.backends.protocol import CancelResult, JobFilter, QueueRecord
from soniqd.backends.records import CANCELLED_KEPT_S, job_record
from soniqd.model import JobId, JobRecord, QueueStats


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
        counts, _ = await self._count()
        return [_stats(queue, counts[queue]) for queue in sorted(counts)]

    async def list_queues(self) -> list[QueueRecord]:
        counts, oldest = await self._count()
        paused = {row[0] for row in await self._database.fetch(SQL["paused_queues"], {}, repeat=True)}
        return [
            QueueRecord(name, name in paused, _stats(name, counts.get(name, Counter())), oldest.get(name))
            for name in sorted(counts.keys() | paused)
        ]

    async def set_queue_paused(self, queue: str, *, paused: bool) -> bool:
        statement = SQL["pause_queue"] if paused else SQL["resume_queue"]
        return bool(await self._database.fetch(statement, {"queue": queue}))

    async def unclaimable_names(self, *, limit: int = 50) -> Mapping[str, int]:
        rows = await self._database.examine(SQL["unclaimable_names"], {"limit": limit})
        return {row["job_name"]: row["count"] for row in rows}

    async def _count(self) -> tuple[dict[str, Counter[str]], dict[str, float]]:
        counts: dict[str, Counter[str]] = {}
        oldest: dict[str, float] = {}
        for row in await self._database.examine(SQL["queue_stats"], {}):
            counts.setdefault(row["queue"], Counter())[row["status"]] += row["count"]
            if row["oldest_s"] is not None:
                oldest[row["queue"]] = max(0.0, row["oldest_s"])
        return counts, oldest


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
