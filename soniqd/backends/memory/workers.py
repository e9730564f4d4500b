"""Worker incarnations in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, TypeVar

from soniqd.backends.memory.state import MemoryState, StoredWorker
from soniqd.backends.records import STOPPED_WORKER_KEPT_S, TICK_KEPT_S, from_epoch, how_ended, storable_text
from soniqd.backends.values import HostLeftovers, PruneReport, ReleaseCause, ReleaseReport, SweepReport
from soniqd.model import JobId, JobStatus, TaskDefaults, WorkerId, WorkerRecord, WorkerStatus

_K = TypeVar("_K", bound=Hashable)


class MemoryWorkers:
    """The protocol's WorkerStore over a :class:`MemoryState`."""

    _state: MemoryState

    async def register_worker(
        self, worker: WorkerRecord, *, names: Collection[str], defaults: Mapping[str, TaskDefaults] | None = None
    ) -> None:
        now = self._state.clock()
        before = self._state.workers.get(worker.id)
        if before is not None and before.status is WorkerStatus.STOPPED:
            return
        started_at = now if before is None else before.started_at
        self._state.workers[worker.id] = StoredWorker(
            worker, frozenset(names), worker.status, now, started_at, dict(defaults or {})
        )

    async def heartbeat(self, workers: Sequence[WorkerId]) -> frozenset[WorkerId]:
        now, living = self._state.clock(), set()
        for worker_id in workers:
            worker = self._state.workers.get(worker_id)
            if worker is not None and worker.status is not WorkerStatus.STOPPED:
                worker.heartbeat_at = now
                living.add(worker_id)
        return frozenset(living)

    async def set_worker_status(self, workers: Sequence[WorkerId], status: WorkerStatus) -> None:
        for worker_id in workers:
            worker = self._state.workers.get(worker_id)
            if worker is not None and worker.status is not WorkerStatus.STOPPED:
                worker.status, worker.heartbeat_at = status, self._state.clock()

    async def list_workers(self, *, stale_after_s: float | None = None, stopped: bool = False) -> list[WorkerRecord]:
        found = [w for w in self._state.workers.values() if (w.status is WorkerStatus.STOPPED) is stopped]
        records = [self._record(worker) for worker in found]
        if stale_after_s is not None:
            records = [record for record in records if (record.heartbeat_age_s or 0.0) > stale_after_s]
        return records

    async def host_leftovers(self, machine_id: str, hostname: str) -> HostLeftovers:
        return HostLeftovers(
            tuple(
                self._record(worker)
                for worker in self._not_stopped()
                if (worker.record.process.machine_id, worker.record.process.hostname) == (machine_id, hostname)
            )
        )

    async def release_workers(
        self,
        workers: Sequence[WorkerId],
        *,
        cause: ReleaseCause,
        max_crashes: int,
        error: str = "",
        blamed: Collection[JobId] | None = None,
    ) -> ReleaseReport:
        for worker_id in workers:
            if worker_id in self._state.workers:
                self._stop(self._state.workers[worker_id], ended=how_ended(error))
        released = self._state.release(
            workers, cause, max_crashes=max_crashes, error=storable_text(error), blamed=blamed
        )
        return ReleaseReport(tuple(released.requeued), tuple(released.dead))

    async def sweep(self, *, heartbeat_timeout_s: float, max_crashes: int) -> SweepReport:
        now = self._state.clock()
        stale = [w for w in self._not_stopped() if now - w.heartbeat_at > heartbeat_timeout_s]
        for worker in stale:
            self._stop(worker)
        living = {worker.record.id for worker in self._not_stopped()}
        orphaning = {
            job.worker_id
            for job in self._state.hot.values()
            if job.status is JobStatus.PROCESSING and job.worker_id is not None and job.worker_id not in living
        }
        error = f"worker lost: no heartbeat for {heartbeat_timeout_s:g} s"
        released = self._state.release(orphaning, "crash", max_crashes=max_crashes, error=error)
        report = ReleaseReport(tuple(released.requeued), tuple(released.dead))
        return SweepReport(ran=True, workers=tuple(worker.record.id for worker in stale), released=report)

    async def prune(self, *, limit: int = 10_000) -> PruneReport:
        state, now = self._state, self._state.clock()
        expired = [i for i, job in state.finished.items() if job.expires_at is not None and job.expires_at <= now]
        stopped = [
            i
            for i, w in state.workers.items()
            if w.status is WorkerStatus.STOPPED and now - w.heartbeat_at > STOPPED_WORKER_KEPT_S
        ]
        old = [key for key in state.ticks if now - key[1] > TICK_KEPT_S]
        return PruneReport(
            history=_drop(state.finished, expired[:limit]),
            workers=_drop(state.workers, stopped[:limit]),
            ticks=_drop(state.ticks, old[:limit]),
        )

    async def wear(self) -> None:
        """Nothing dies here."""

    async def vacuum(self) -> bool:
        return True

    def _not_stopped(self) -> list[StoredWorker]:
        return [worker for worker in self._state.workers.values() if worker.status is not WorkerStatus.STOPPED]

    def _stop(self, worker: StoredWorker, *, ended: str = "") -> None:
        first, worker.status = worker.status is not WorkerStatus.STOPPED, WorkerStatus.STOPPED
        if ended and first:
            metadata = {**worker.record.metadata, "ended": ended}
            worker.record = dataclasses.replace(worker.record, metadata=metadata)

    def _record(self, worker: StoredWorker) -> WorkerRecord:
        held = sum(job.worker_id == worker.record.id for job in self._state.hot.values())
        return dataclasses.replace(
            worker.record,
            status=worker.status,
            heartbeat_age_s=self._state.clock() - worker.heartbeat_at,
            started_at=from_epoch(worker.started_at),
            jobs_processing=held,
        )


def _drop(table: dict[_K, Any], keys: Sequence[_K]) -> int:
    for key in keys:
        del table[key]
    return len(keys)
