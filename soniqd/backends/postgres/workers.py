"""Worker incarnations: register, keep alive, declare dead, prune."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from psycopg import errors

from soniqd.backends.postgres.database import Database, Transaction
from soniqd.backends.postgres.leadership import advisory_key
from soniqd.backends.postgres.outcome import Move, write_moves
from soniqd.backends.postgres.statements import SQL
from soniqd.backends.records import (
    CANCELLED_KEPT_S,
    STOPPED_WORKER_KEPT_S,
    TICK_KEPT_S,
    defaults_json,
    how_ended,
    storable_text,
)
from soniqd.backends.values import HostLeftovers, PruneReport, ReleaseCause, ReleaseReport, SweepReport
from soniqd.errors import DatabaseError
from soniqd.model import JobId, ProcessIdentity, TaskDefaults, WorkerId, WorkerRecord, WorkerStatus

_SWEEP_KEY = advisory_key("sweep")
_TWIN_ROUNDS = 3
_Report_co = TypeVar("_Report_co", covariant=True)


class _Work(Protocol[_Report_co]):
    def __call__(self, transaction: Transaction, *, give_up_keys: bool) -> Awaitable[_Report_co]: ...


class PostgresWorkers:
    """The protocol's WorkerStore."""

    _database: Database

    async def register_worker(
        self, worker: WorkerRecord, *, names: Collection[str], defaults: Mapping[str, TaskDefaults] | None = None
    ) -> None:
        process, tasks = worker.process, sorted(names)
        parameters = {
            "id": worker.id,
            "hostname": storable_text(process.hostname),
            "pid": process.pid,
            "queues": list(worker.queues),
            "concurrency": worker.concurrency,
            "status": str(worker.status),
            "version": worker.version,
            "metadata": json.dumps(worker.metadata),
            "machine_id": process.machine_id,
            "boot_id": process.boot_id,
            "pid_namespace": process.pid_namespace,
            "start_ticks": process.start_ticks,
            "supervised": worker.supervised,
            "slot": worker.slot,
            "names": tasks,
            "defaults": [defaults_json((defaults or {}).get(name)) for name in tasks],
        }
        await self._database.fetch(SQL["register_worker"], parameters, repeat=True)

    async def heartbeat(self, workers: Sequence[WorkerId]) -> frozenset[WorkerId]:
        if not workers:
            return frozenset()
        rows = await self._database.fetch(SQL["heartbeat"], {"ids": list(workers)}, repeat=True)
        return frozenset(WorkerId(row[0]) for row in rows)

    async def set_worker_status(self, workers: Sequence[WorkerId], status: WorkerStatus) -> None:
        parameters = {"ids": list(workers), "status": str(status)}
        await self._database.fetch(SQL["set_worker_status"], parameters, repeat=True)

    async def list_workers(self, *, stale_after_s: float | None = None, stopped: bool = False) -> list[WorkerRecord]:
        return await self._list_workers(stale_after_s=stale_after_s, stopped=stopped)

    async def host_leftovers(self, machine_id: str, hostname: str) -> HostLeftovers:
        return HostLeftovers(tuple(await self._list_workers(machine_id=machine_id, hostname=hostname)))

    async def release_workers(
        self,
        workers: Sequence[WorkerId],
        *,
        cause: ReleaseCause,
        max_crashes: int,
        error: str = "",
        blamed: Collection[JobId] | None = None,
    ) -> ReleaseReport:
        async def release(transaction: Transaction, *, give_up_keys: bool) -> ReleaseReport:
            ids = list(workers)
            await transaction.fetch(SQL["lock_workers"], {"ids": ids, "ended": how_ended(error) or None})
            rows = await transaction.fetch(SQL["held_by_workers"], {"ids": ids})
            moves = [_release(row, cause, max_crashes, storable_text(error), blamed) for row in rows]
            return await _write(transaction, moves, give_up_keys=give_up_keys)

        return await self._despite_twins("release the jobs of workers", release)

    async def sweep(self, *, heartbeat_timeout_s: float, max_crashes: int) -> SweepReport:
        error = f"worker lost: no heartbeat for {heartbeat_timeout_s:g} s"

        async def sweep(transaction: Transaction, *, give_up_keys: bool) -> SweepReport:
            [(mine,)] = await transaction.fetch(SQL["try_sweep"], {"key": _SWEEP_KEY})
            if not mine:
                return SweepReport(ran=False)
            timeout = {"timeout_s": heartbeat_timeout_s}
            stale = [WorkerId(row[0]) for row in await transaction.fetch(SQL["lock_stale_workers"], timeout)]
            rows = await transaction.fetch(SQL["held_by_workers"], {"ids": stale})
            seen = {row[0] for row in rows}
            rows += [r for r in await transaction.fetch(SQL["held_by_nobody"], timeout) if r[0] not in seen]
            moves = [_release(row, "crash", max_crashes, error) for row in rows]
            released = await _write(transaction, moves, give_up_keys=give_up_keys)
            return SweepReport(ran=True, workers=tuple(stale), released=released)

        return await self._despite_twins("sweep lost workers", sweep)

    async def prune(self, *, limit: int = 10_000) -> PruneReport:
        await self._prune("prune_left_behind", limit, CANCELLED_KEPT_S)
        await self._prune("prune_registry", limit, STOPPED_WORKER_KEPT_S)
        return PruneReport(
            history=await self._prune("prune_history", limit, 0.0),
            workers=await self._prune("prune_workers", limit, STOPPED_WORKER_KEPT_S),
            ticks=await self._prune("prune_ticks", limit, TICK_KEPT_S),
        )

    async def _prune(self, name: str, limit: int, kept_s: float) -> int:
        return await self._database.count(SQL[name], {"limit": limit, "kept_s": kept_s})

    async def _list_workers(
        self,
        *,
        stale_after_s: float | None = None,
        machine_id: str | None = None,
        hostname: str | None = None,
        stopped: bool = False,
    ) -> list[WorkerRecord]:
        parameters = {
            "stale_after_s": stale_after_s,
            "machine_id": machine_id,
            "hostname": hostname,
            "stopped": stopped,
        }
        rows = await self._database.fetch(SQL["list_workers"], parameters, rows="dict", repeat=True)
        return [_record(row) for row in rows]

    async def _despite_twins(self, purpose: str, work: _Work[_Report_co]) -> _Report_co:
        """Repeat a release that a twin made fail by committing at the same moment; in the end without keys."""
        for last_round in (*[False] * _TWIN_ROUNDS, True):
            try:
                async with self._database.transaction(purpose) as transaction:
                    return await work(transaction, give_up_keys=last_round)
            except DatabaseError as error:
                if last_round or not isinstance(error.__cause__, errors.UniqueViolation):
                    raise
        raise AssertionError


def _release(
    row: Sequence[Any],
    cause: ReleaseCause,
    max_crashes: int,
    error: str,
    blamed: Collection[JobId] | None = None,
) -> Move:
    job_id, worker_id, claim_no, crashes = row
    words = error or None
    if cause == "interrupted":
        return Move("back", JobId(job_id), worker_id, claim_no, interruptions=1)
    if blamed is not None and job_id not in blamed:
        return Move("back", JobId(job_id), worker_id, claim_no)
    if crashes + 1 >= max_crashes:
        return Move("dead", JobId(job_id), worker_id, claim_no, crashes=1, words=words, reason="worker_lost")
    return Move("back", JobId(job_id), worker_id, claim_no, crashes=1, words=words)


async def _write(transaction: Transaction, moves: Sequence[Move], *, give_up_keys: bool) -> ReleaseReport:
    if not moves:
        return ReleaseReport()
    # A job that its worker finished in this moment after all is not among them.
    written = await write_moves(transaction, moves, give_up_keys=give_up_keys)
    return ReleaseReport(
        requeued=tuple(move.job_id for move in moves if move.kind == "back" and move.job_id in written),
        dead_lettered=tuple(move.job_id for move in moves if move.kind == "dead" and move.job_id in written),
    )


def _record(row: dict[str, Any]) -> WorkerRecord:
    process = ProcessIdentity(
        machine_id=row["machine_id"],
        hostname=row["hostname"],
        boot_id=row["boot_id"],
        pid_namespace=row["pid_namespace"],
        pid=row["pid"],
        start_ticks=row["start_ticks"],
    )
    return WorkerRecord(
        id=WorkerId(row["id"]),
        process=process,
        queues=tuple(row["queues"] or ()),
        concurrency=row["concurrency"],
        status=WorkerStatus(row["status"]),
        version=row["version"] or "",
        supervised=row["supervised"],
        slot=row["slot"],
        heartbeat_age_s=row["heartbeat_age_s"],
        started_at=row["started_at"],
        jobs_processing=row["jobs_processing"],
        metadata=json.loads(row["metadata"] or "{}"),
    )
