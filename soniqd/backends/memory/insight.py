"""Questions of people about what is in memory."""

from __future__ import annotations

import math
import os
import socket
from collections import Counter
from collections.abc import Iterable

from soniqd.backends.memory.state import MemoryState, StoredJob, StoredWorker
from soniqd.backends.memory.workers import MemoryWorkers
from soniqd.backends.records import from_epoch, job_record
from soniqd.model import Backlog, JobFacts, JobId, JobStatus, LeaderRecord, QueueBacklog, TaskDefaults, WorkerStatus
from soniqd.model.insight import COUNTED_TO, UNKNOWN_COUNTED_TO


class MemoryInsight(MemoryWorkers):
    """The protocol's InsightStore over a :class:`MemoryState`."""

    _state: MemoryState

    async def backlog(self) -> Backlog:
        state, jobs = self._state, list(self._state.hot.values())
        known = {name for worker in self._live() for name in worker.names}
        queues = sorted({job.queue for job in jobs} | state.paused)
        unknown = Counter(job.job_name for job in jobs if job.status is JobStatus.QUEUED and job.job_name not in known)
        return Backlog(
            queues=tuple(self._queue(queue, [job for job in jobs if job.queue == queue]) for queue in queues),
            unclaimable={name: min(number, UNKNOWN_COUNTED_TO) for name, number in sorted(unknown.items())},
        )

    async def job_facts(self, job_id: JobId) -> JobFacts | None:
        state = self._state
        job = state.hot.get(job_id) or state.finished.get(job_id) or state.dead.get(job_id)
        if job is None:
            return None
        now = from_epoch(state.clock())
        assert now is not None
        return JobFacts(
            record=job_record(job.row()),
            now=now,
            queue_paused=job.queue in state.paused,
            ahead=self._ahead(job) if _is_ready(job) else None,
            workers=tuple(await self.list_workers()),
            knowers=frozenset(worker.record.id for worker in self._live() if job.job_name in worker.names),
            defaults=await self.task_defaults(job.job_name),
            dead_letter_reason=job.dead_letter_reason,
            replayed=job.resurrection_count,
        )

    async def task_defaults(self, name: str, *, heard_within_s: float | None = None) -> TaskDefaults | None:
        since = -math.inf if heard_within_s is None else self._state.clock() - heard_within_s
        knowing = [worker for worker in self._live() if name in worker.names and worker.heartbeat_at >= since]
        knowing.sort(key=lambda worker: worker.started_at, reverse=True)
        return TaskDefaults.agreed(worker.defaults.get(name) for worker in knowing)

    async def known_tasks(self) -> frozenset[str]:
        return frozenset(name for worker in self._live() for name in worker.names)

    async def leader(self, name: str) -> LeaderRecord | None:
        return LeaderRecord(socket.gethostname(), os.getpid()) if name in self._state.leaders else None

    def _live(self) -> list[StoredWorker]:
        return [worker for worker in self._state.workers.values() if worker.status is not WorkerStatus.STOPPED]

    def _queue(self, queue: str, jobs: Iterable[StoredJob]) -> QueueBacklog:
        now = self._state.clock()
        queued = [job for job in jobs if job.status is JobStatus.QUEUED]
        ready = [job for job in queued if job.scheduled_at is None]
        later = len(queued) - len(ready)
        return QueueBacklog(
            queue=queue,
            paused=queue in self._state.paused,
            ready=min(len(ready), COUNTED_TO),
            ready_more=len(ready) > COUNTED_TO,
            later=min(later, COUNTED_TO),
            later_more=later > COUNTED_TO,
            processing=sum(job.status is JobStatus.PROCESSING for job in jobs),
            oldest_s=max((max(0.0, now - _ready_since(job)) for job in ready), default=None),
        )

    def _ahead(self, job: StoredJob) -> int:
        known = {name for worker in self._live() for name in worker.names} | {job.job_name}
        others = (other for other in self._state.hot.values() if other.queue == job.queue and other.job_name in known)
        before = sum(_is_ready(other) and (other.priority, other.seq) < (job.priority, job.seq) for other in others)
        return min(before, COUNTED_TO + 1)


def _is_ready(job: StoredJob) -> bool:
    return job.status is JobStatus.QUEUED and job.scheduled_at is None


def _ready_since(job: StoredJob) -> float:
    return job.created_at if job.due_at is None else job.due_at
