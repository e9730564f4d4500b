"""Worker incarnations in SQLite."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from soniqd.backends.records import STOPPED_WORKER_KEPT_S, TICK_KEPT_S, defaults_json, from_epoch, how_ended
from soniqd.backends.sqlite.access import Access
from soniqd.backends.sqlite.inspection import mappings
from soniqd.backends.sqlite.outcomes import release_jobs_of
from soniqd.backends.sqlite.transaction import Transaction, as_json
from soniqd.backends.values import HostLeftovers, PruneReport, ReleaseCause, ReleaseReport, SweepReport
from soniqd.model import JobId, ProcessIdentity, TaskDefaults, WorkerId, WorkerRecord, WorkerStatus

_PRUNED_AT_ONCE = 500


class SQLiteWorkers:
    """The protocol's WorkerStore."""

    _access: Access

    async def register_worker(
        self, worker: WorkerRecord, *, names: Collection[str], defaults: Mapping[str, TaskDefaults] | None = None
    ) -> None:
        tasks = {name: defaults_json((defaults or {}).get(name)) for name in names}
        await self._access.write(lambda tx: _register(tx, worker, tasks))

    async def heartbeat(self, workers: Sequence[WorkerId]) -> frozenset[WorkerId]:
        return await self._access.write(lambda tx: _beat(tx, workers))

    async def set_worker_status(self, workers: Sequence[WorkerId], status: WorkerStatus) -> None:
        await self._access.write(lambda tx: tx.run("set_worker_status", (status.value, tx.now, as_json(list(workers)))))

    async def list_workers(self, *, stale_after_s: float | None = None, stopped: bool = False) -> list[WorkerRecord]:
        where = {"stale_after_s": stale_after_s, "machine_id": None, "hostname": None, "stopped": stopped}
        return await self._find_workers(where)

    async def host_leftovers(self, machine_id: str, hostname: str) -> HostLeftovers:
        where = {"stale_after_s": None, "machine_id": machine_id, "hostname": hostname, "stopped": False}
        return HostLeftovers(tuple(await self._find_workers(where)))

    async def release_workers(
        self,
        workers: Sequence[WorkerId],
        *,
        cause: ReleaseCause,
        max_crashes: int,
        error: str = "",
        blamed: Collection[JobId] | None = None,
    ) -> ReleaseReport:
        return await self._access.write(
            lambda tx: _release(tx, workers, cause=cause, max_crashes=max_crashes, error=error, blamed=blamed)
        )

    async def sweep(self, *, heartbeat_timeout_s: float, max_crashes: int) -> SweepReport:
        return await self._access.write(
            lambda tx: _sweep(tx, heartbeat_timeout_s=heartbeat_timeout_s, max_crashes=max_crashes)
        )

    async def prune(self, *, limit: int = 10_000) -> PruneReport:
        """Delete in bites: other writers wait for each."""
        total = PruneReport()
        for start in range(0, limit, _PRUNED_AT_ONCE):
            bite = min(_PRUNED_AT_ONCE, limit - start)
            found = await self._access.write(partial(_prune, limit=bite))
            total = PruneReport(
                history=total.history + found.history,
                workers=total.workers + found.workers,
                ticks=total.ticks + found.ticks,
            )
            if max(found.history, found.workers, found.ticks) < bite:
                break
        return total

    async def wear(self) -> None:
        """A deleted row's place is used again as soon as nobody reads it."""

    async def vacuum(self) -> bool:
        return True

    async def _find_workers(self, where: Mapping[str, Any]) -> list[WorkerRecord]:
        parameters = {"now": self._access.now(), **where}
        found = await self._access.read(lambda db: mappings(db, "workers", parameters))
        return [_record(row) for row in found]


def _register(tx: Transaction, worker: WorkerRecord, tasks: Mapping[str, str | None]) -> None:
    process = worker.process
    tx.run(
        "register_worker",
        (
            worker.id,
            process.machine_id,
            process.hostname,
            process.boot_id,
            process.pid_namespace,
            process.pid,
            process.start_ticks,
            json.dumps(worker.queues),
            worker.concurrency,
            worker.status.value,
            worker.version,
            worker.supervised,
            worker.slot,
            json.dumps(worker.metadata),
            tx.now,
            tx.now,
        ),
    )
    tx.run("forget_names", (worker.id,))
    tx.run("register_names", (worker.id, as_json([{"name": name, "defaults": tasks[name]} for name in sorted(tasks)])))


def _beat(tx: Transaction, workers: Sequence[WorkerId]) -> frozenset[WorkerId]:
    ids = as_json(list(workers))
    tx.run("beat", (tx.now, ids))
    return frozenset(WorkerId(worker_id) for worker_id in tx.array("living", (ids,)))


def _release(
    tx: Transaction,
    workers: Sequence[str],
    *,
    cause: ReleaseCause,
    max_crashes: int,
    error: str,
    blamed: Collection[JobId] | None,
) -> ReleaseReport:
    if error:
        tx.run("note_end", (how_ended(error), as_json(list(workers))))
    tx.run("stop_workers", (as_json(list(workers)),))
    return release_jobs_of(tx, workers, cause=cause, max_crashes=max_crashes, error=error, blamed=blamed)


def _sweep(tx: Transaction, *, heartbeat_timeout_s: float, max_crashes: int) -> SweepReport:
    silent = tx.array("silent_workers", (tx.now, heartbeat_timeout_s))
    tx.run("stop_workers", (as_json(silent),))
    holders = tx.array("holders_not_living")
    error = f"worker lost: no heartbeat for {heartbeat_timeout_s:g} s"
    released = release_jobs_of(tx, holders, cause="crash", max_crashes=max_crashes, error=error)
    return SweepReport(ran=True, workers=tuple(WorkerId(worker_id) for worker_id in silent), released=released)


def _prune(tx: Transaction, *, limit: int) -> PruneReport:
    tx.run("prune_counts")
    return PruneReport(
        history=tx.run("prune_finished", (tx.now, limit)).rowcount,
        workers=tx.run("prune_workers", (tx.now - STOPPED_WORKER_KEPT_S, limit)).rowcount,
        ticks=tx.run("prune_ticks", (tx.now - TICK_KEPT_S, limit)).rowcount,
    )


def _record(row: Mapping[str, Any]) -> WorkerRecord:
    return WorkerRecord(
        id=WorkerId(row["id"]),
        process=ProcessIdentity(
            machine_id=row["machine_id"],
            hostname=row["hostname"],
            boot_id=row["boot_id"],
            pid_namespace=row["pid_namespace"],
            pid=row["pid"],
            start_ticks=row["start_ticks"],
        ),
        queues=tuple(json.loads(row["queues"])),
        concurrency=row["concurrency"],
        status=WorkerStatus(row["status"]),
        version=row["version"],
        supervised=bool(row["supervised"]),
        slot=row["slot"],
        heartbeat_age_s=max(0.0, row["age"]),
        started_at=from_epoch(row["started_at"]),
        jobs_processing=row["jobs_processing"],
        metadata=json.loads(row["metadata"]),
    )
