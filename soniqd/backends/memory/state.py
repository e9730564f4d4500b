"""What a memory backend holds, and the moves of a job between its places."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from soniqd.backends.records import CANCELLED_KEPT_S
from soniqd.backends.values import ReleaseCause
from soniqd.backends.wakebox import WakeBox
from soniqd.model import Fence, JobId, JobStatus, NewJob, ScheduleSpec, TaskDefaults, WorkerRecord, WorkerStatus


@dataclass(slots=True)
class StoredJob:
    """A job in any of the three places; attributes are named as the columns of the SQL backends. Times: epoch."""

    id: JobId
    seq: int
    job_name: str
    args: str
    queue: str
    priority: int
    max_attempts: int
    created_at: float
    updated_at: float
    args_hash: str | None = None
    unique_job: bool = False
    dedup_key: str | None = None
    producer_id: str | None = None
    status: JobStatus = JobStatus.QUEUED
    attempts: int = 0
    crashes: int = 0
    interruptions: int = 0
    claim_no: int = 0
    outcome_no: int = 0
    """The claim number of the last outcome that a claimant wrote: tells it from a release by somebody else."""
    worker_id: str | None = None
    scheduled_at: float | None = None
    due_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    expires_at: float | None = None
    last_error: str | None = None
    result: str | None = None
    dead_letter_reason: str | None = None
    resurrection_count: int = 0
    last_resurrection_at: float | None = None

    def row(self) -> dict[str, Any]:
        """Return the columns, for the record helpers."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class StoredWorker:
    """An incarnation with the names that it registered."""

    record: WorkerRecord
    names: frozenset[str]
    status: WorkerStatus
    heartbeat_at: float
    started_at: float
    defaults: dict[str, TaskDefaults] = field(default_factory=dict)


@dataclass(slots=True)
class StoredSchedule:
    """A schedule with what has become of it."""

    spec: ScheduleSpec
    next_run: float
    paused: bool = False
    last_run: float | None = None
    last_job_id: str | None = None
    run_count: int = 0


@dataclass(slots=True)
class MemoryState:
    """Everything stored, and the moves that keep its indexes right."""

    clock: Callable[[], float]
    hot: dict[JobId, StoredJob] = field(default_factory=dict)
    finished: dict[JobId, StoredJob] = field(default_factory=dict)
    dead: dict[JobId, StoredJob] = field(default_factory=dict)
    heaps: dict[tuple[str, str], list[tuple[int, int, JobId]]] = field(default_factory=dict)
    later: list[tuple[float, int, JobId]] = field(default_factory=list)
    unique_keys: dict[tuple[str, str], JobId] = field(default_factory=dict)
    dedup_keys: dict[str, JobId] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    workers: dict[str, StoredWorker] = field(default_factory=dict)
    schedules: dict[str, StoredSchedule] = field(default_factory=dict)
    ticks: dict[tuple[str, float], JobId] = field(default_factory=dict)
    boxes: set[WakeBox] = field(default_factory=set)
    leaders: dict[str, object] = field(default_factory=dict)
    last_seq: int = 0

    def store(self, new: NewJob) -> tuple[JobId, bool]:
        """Store a job unless a queued twin holds its key; return the id that stands for it, and whether it is new."""
        twin = self._twin(unique=_unique_key(new.name, new.args_hash, unique=new.unique), dedup_key=new.dedup_key)
        if twin is not None:
            return twin, False
        if new.id in self.hot:
            return new.id, False
        now = self.clock()
        self.last_seq += 1
        job = StoredJob(
            id=new.id,
            seq=self.last_seq,
            job_name=new.name,
            args=new.args_json,
            queue=new.queue,
            priority=new.priority,
            max_attempts=new.max_attempts,
            created_at=now,
            updated_at=now,
            args_hash=new.args_hash,
            unique_job=new.unique,
            dedup_key=new.dedup_key,
            producer_id=new.producer_id,
        )
        self.hot[job.id] = job
        due_at = _due_at(new, now)
        self.enter_queue(job, due_at=due_at)
        return job.id, True

    def enter_queue(self, job: StoredJob, *, due_at: float | None) -> None:
        """Queue a job, now or for later; it gives its keys up to a twin that holds them."""
        now = self.clock()
        job.status, job.worker_id, job.started_at, job.updated_at = JobStatus.QUEUED, None, None, now
        self._hold_keys(job)
        if due_at is not None and due_at > now:
            job.scheduled_at, job.due_at = due_at, None
            heapq.heappush(self.later, (due_at, job.seq, job.id))
            self.wake(due_in_s=due_at - now)
        else:
            self.make_claimable(job, due_at=due_at)

    def make_claimable(self, job: StoredJob, *, due_at: float | None) -> None:
        """Put a queued job among those that a claim looks at."""
        job.scheduled_at, job.updated_at = None, self.clock()
        job.due_at = due_at if due_at is not None else job.due_at
        heapq.heappush(self.heaps.setdefault((job.queue, job.job_name), []), (job.priority, job.seq, job.id))
        self.wake(job.queue)

    def leave_queue(self, job: StoredJob) -> None:
        """Free the keys of a job that is queued no longer."""
        unique = _unique_key(job.job_name, job.args_hash, unique=job.unique_job)
        if unique is not None and self.unique_keys.get(unique) == job.id:
            del self.unique_keys[unique]
        if job.dedup_key is not None and self.dedup_keys.get(job.dedup_key) == job.id:
            del self.dedup_keys[job.dedup_key]

    def finish(self, job: StoredJob, status: JobStatus, *, kept_s: float) -> None:
        """Move a job from the hot place to the history, or nowhere if it is kept for no time."""
        del self.hot[job.id]
        now = self.clock()
        job.status, job.updated_at, job.finished_at, job.expires_at = status, now, now, now + kept_s
        if kept_s > 0:
            self.finished[job.id] = job

    def cancel(self, job: StoredJob) -> None:
        """Move a queued job to the history as cancelled."""
        self.leave_queue(job)
        self.finish(job, JobStatus.CANCELLED, kept_s=CANCELLED_KEPT_S)

    def bury(self, job: StoredJob, *, reason: str, error: str) -> None:
        """Move a job to the dead letters."""
        del self.hot[job.id]
        now = self.clock()
        job.status, job.updated_at, job.finished_at = JobStatus.DEAD_LETTER, now, now
        job.dead_letter_reason, job.last_error = reason, error
        self.dead[job.id] = job

    def release(
        self,
        worker_ids: Iterable[str],
        cause: ReleaseCause,
        *,
        max_crashes: int,
        error: str,
        blamed: Collection[JobId] | None = None,
    ) -> _Released:
        """Take the jobs of these workers away; the poisonous among them die."""
        gone = set(worker_ids)
        released = _Released()
        for job in sorted((j for j in self.hot.values() if j.worker_id in gone), key=lambda j: j.seq):
            if cause == "crash" and (blamed is None or job.id in blamed):
                job.crashes += 1
                if job.crashes >= max_crashes:
                    self.bury(job, reason="worker_lost", error=error or job.last_error or "")
                    released.dead.append(job.id)
                    continue
                job.last_error = error or job.last_error
            elif cause == "interrupted":
                job.interruptions += 1
            self.enter_queue(job, due_at=None)
            released.requeued.append(job.id)
        return released

    def fenced(self, fence: Fence) -> StoredJob | None:
        """Return the job if this fence still holds it."""
        job = self.hot.get(fence.job_id)
        if job is None or job.status is not JobStatus.PROCESSING:
            return None
        return job if (job.worker_id, job.claim_no) == (fence.worker_id, fence.claim_no) else None

    def wake(self, queue: str | None = None, *, due_in_s: float | None = None) -> None:
        """Tell every subscriber."""
        for box in self.boxes:
            box.add(queue, due_in_s=due_in_s)

    def _twin(self, *, unique: tuple[str, str] | None, dedup_key: str | None) -> JobId | None:
        by_key = self.dedup_keys.get(dedup_key) if dedup_key is not None else None
        return by_key or (self.unique_keys.get(unique) if unique is not None else None)

    def _hold_keys(self, job: StoredJob) -> None:
        unique = _unique_key(job.job_name, job.args_hash, unique=job.unique_job)
        if unique is not None and self.unique_keys.setdefault(unique, job.id) != job.id:
            job.unique_job = False
        if job.dedup_key is not None and self.dedup_keys.setdefault(job.dedup_key, job.id) != job.id:
            job.dedup_key = None


@dataclass(slots=True)
class _Released:
    requeued: list[JobId] = field(default_factory=list)
    dead: list[JobId] = field(default_factory=list)


def _unique_key(name: str, args_hash: str | None, *, unique: bool) -> tuple[str, str] | None:
    return (name, args_hash) if unique and args_hash is not None else None


def _due_at(new: NewJob, now: float) -> float | None:
    if new.run_at is not None:
        return new.run_at.timestamp()
    return None if new.delay_s is None else now + new.delay_s
