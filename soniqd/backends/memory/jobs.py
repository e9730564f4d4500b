"""Jobs in memory: enqueue, claim, complete, inspect."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, assert_never

from soniqd.backends.memory.state import MemoryState, StoredJob
from soniqd.backends.records import from_epoch, job_record, refusals, refuse, storable_text
from soniqd.backends.values import CancelResult, DueReport, JobFilter, QueueRecord
from soniqd.errors import UnsupportedByBackendError
from soniqd.model import (
    ClaimedJob,
    DeadLettered,
    Done,
    Fence,
    JobId,
    JobRecord,
    JobStatus,
    NewJob,
    Outcome,
    QueueStats,
    Released,
    Retry,
    Snoozed,
    WorkerId,
    WorkerStatus,
)


class MemoryJobs:
    """The protocol's JobStore over a :class:`MemoryState`."""

    _state: MemoryState

    async def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[JobId]:
        if connection is not None:
            raise UnsupportedByBackendError(
                "cannot enqueue on the caller's connection: the memory backend has no transactions"
            )
        return [self._state.store(job)[0] for job in jobs]

    async def claim(
        self, worker_id: WorkerId, *, names: Sequence[str] | None, queues: Sequence[str] | None, limit: int
    ) -> list[ClaimedJob]:
        worker = self._state.workers.get(worker_id)
        if worker is None or worker.status is not WorkerStatus.ACTIVE:
            return []
        best_first = self._take_claimable(names=names, queues=queues)
        return [self._stamp(job, worker_id) for job in itertools.islice(best_first, limit)]

    def _take_claimable(self, *, names: Sequence[str] | None, queues: Sequence[str] | None) -> Iterator[StoredJob]:
        state = self._state
        heaps = [
            heap
            for (queue, name), heap in state.heaps.items()
            if queue not in state.paused and (queues is None or queue in queues) and (names is None or name in names)
        ]
        while heaps := [heap for heap in heaps if heap]:
            _, _, job_id = heapq.heappop(min(heaps))
            job = state.hot.get(job_id)
            if job is not None and job.status is JobStatus.QUEUED:
                yield job

    def _stamp(self, job: StoredJob, worker_id: WorkerId) -> ClaimedJob:
        self._state.leave_queue(job)
        now = self._state.clock()
        job.status, job.worker_id, job.claim_no = JobStatus.PROCESSING, worker_id, job.claim_no + 1
        job.started_at = job.updated_at = now
        return _claimed(job, worker_id)

    async def claims_of(self, worker_id: WorkerId) -> list[ClaimedJob]:
        held = [j for j in self._state.hot.values() if j.worker_id == worker_id and j.status is JobStatus.PROCESSING]
        held.sort(key=lambda job: (job.priority, job.seq))
        return [_claimed(job, worker_id) for job in held]

    async def promote_due(self, *, limit: int = 1000) -> DueReport:
        state, promoted = self._state, 0
        now = state.clock()
        while state.later:
            due_at, _, job_id = state.later[0]
            job = state.hot.get(job_id)
            if job is None or job.scheduled_at != due_at:
                heapq.heappop(state.later)
            elif due_at > now or promoted == limit:
                return DueReport(promoted, max(0.0, due_at - now))
            else:
                heapq.heappop(state.later)
                state.make_claimable(job, due_at=due_at)
                promoted += 1
        return DueReport(promoted, None)

    async def complete(self, outcomes: Sequence[Outcome]) -> frozenset[JobId]:
        refused = refusals(outcomes)
        changed = set()
        for outcome in outcomes:
            job = self._state.fenced(outcome.fence)
            if job is not None and job.id not in refused:
                job.outcome_no = job.claim_no
                self._settle(job, outcome)
                changed.add(job.id)
        refuse(refused, changed=frozenset(changed))
        return frozenset(changed)

    def _settle(self, job: StoredJob, outcome: Outcome) -> None:
        state = self._state
        now = state.clock()
        match outcome:
            case Done():
                job.attempts += 1
                job.result = outcome.result_json
                state.finish(job, JobStatus.DONE, kept_s=outcome.result_ttl_s)
            case Retry():
                job.attempts += 1
                job.last_error = storable_text(outcome.error)
                state.enter_queue(job, due_at=now + outcome.delay_s)
            case Snoozed():
                job.last_error = job.last_error if outcome.reason is None else storable_text(outcome.reason)
                state.enter_queue(job, due_at=now + outcome.delay_s)
            case DeadLettered():
                job.attempts += 1
                state.bury(job, reason=storable_text(outcome.reason), error=storable_text(outcome.error))
            case Released():
                job.interruptions += outcome.interrupted
                state.enter_queue(job, due_at=None)
            case _:
                assert_never(outcome)

    async def settled(self, outcomes: Sequence[Outcome]) -> frozenset[JobId]:
        return frozenset(o.fence.job_id for o in outcomes if self._is_settled(o))

    def _is_settled(self, outcome: Outcome) -> bool:
        job = self._find(outcome.fence.job_id)
        if job is None:
            return isinstance(outcome, Done) and outcome.result_ttl_s <= 0
        return job.outcome_no == outcome.fence.claim_no

    async def get_job(self, job_id: JobId) -> JobRecord | None:
        job = self._find(job_id)
        return None if job is None else job_record(job.row())

    async def list_jobs(self, where: JobFilter) -> list[JobRecord]:
        found = [
            job
            for job in self._everywhere()
            if where.queue in (None, job.queue)
            and where.status in (None, job.status)
            and where.name in (None, job.job_name)
            and where.worker_id in (None, job.worker_id)
        ]
        found.sort(key=lambda job: (job.created_at, job.seq), reverse=True)
        return [job_record(job.row()) for job in found[where.offset : where.offset + where.limit]]

    async def cancel_job(self, job_id: JobId) -> CancelResult:
        job = self._state.hot.get(job_id)
        if job is None:
            return "missing" if self._find(job_id) is None else "finished"
        if job.status is JobStatus.PROCESSING:
            return "processing"
        self._state.cancel(job)
        return "cancelled"

    async def delete_job(self, job_id: JobId) -> bool:
        state = self._state
        job = state.hot.get(job_id)
        if job is not None:
            if job.status is JobStatus.PROCESSING:
                return False
            state.leave_queue(job)
        return any(place.pop(job_id, None) is not None for place in (state.hot, state.finished, state.dead))

    async def queue_stats(self) -> list[QueueStats]:
        counts: dict[str, Counter[str]] = {}
        for job in self._everywhere():
            counts.setdefault(job.queue, Counter())[job.status] += 1
        return [_stats(queue, counts[queue]) for queue in sorted(counts)]

    async def list_queues(self) -> list[QueueRecord]:
        state, now = self._state, self._state.clock()
        stats = {row["queue"]: row for row in await self.queue_stats()}
        claimable = [j for j in state.hot.values() if j.status is JobStatus.QUEUED and j.scheduled_at is None]
        oldest: dict[str, float] = {}
        for job in claimable:
            oldest[job.queue] = max(oldest.get(job.queue, 0.0), now - job.created_at)
        return [
            QueueRecord(name, name in state.paused, stats.get(name) or _stats(name, Counter()), oldest.get(name))
            for name in sorted(stats.keys() | state.paused)
        ]

    async def set_queue_paused(self, queue: str, *, paused: bool) -> bool:
        if (queue in self._state.paused) == paused:
            return False
        if paused:
            self._state.paused.add(queue)
        else:
            self._state.paused.discard(queue)
            self._state.wake(queue)
        return True

    async def unclaimable_names(self, *, limit: int = 50) -> Mapping[str, int]:
        live = (w for w in self._state.workers.values() if w.status is not WorkerStatus.STOPPED)
        known = frozenset().union(*(w.names for w in live))
        queued = (j.job_name for j in self._state.hot.values() if j.status is JobStatus.QUEUED)
        return dict(Counter(name for name in queued if name not in known).most_common(limit))

    def _find(self, job_id: JobId) -> StoredJob | None:
        state = self._state
        return state.hot.get(job_id) or state.finished.get(job_id) or state.dead.get(job_id)

    def _everywhere(self) -> Iterator[StoredJob]:
        state = self._state
        return itertools.chain(state.hot.values(), state.finished.values(), state.dead.values())


def _claimed(job: StoredJob, worker_id: WorkerId) -> ClaimedJob:
    return ClaimedJob(
        fence=Fence(job.id, worker_id, job.claim_no),
        name=job.job_name,
        args_json=job.args,
        queue=job.queue,
        priority=job.priority,
        attempts=job.attempts,
        max_attempts=job.max_attempts,
        crashes=job.crashes,
        scheduled_at=from_epoch(job.due_at),
        created_at=from_epoch(job.created_at),
    )


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
