"""The protocol of a storage backend."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from soniqd.backends.values import (
    CancelResult,
    Capabilities,
    DeadLetterFilter,
    DueReport,
    HostLeftovers,
    JobFilter,
    MigrationStatus,
    PruneReport,
    QueueRecord,
    ReleaseCause,
    ReleaseReport,
    SweepReport,
    WakeUp,
)
from soniqd.model import (
    Backlog,
    ClaimedJob,
    JobFacts,
    JobId,
    JobRecord,
    LeaderRecord,
    NewJob,
    Outcome,
    QueueStats,
    ScheduleRecord,
    ScheduleSpec,
    TaskDefaults,
    Tick,
    WorkerId,
    WorkerRecord,
    WorkerStatus,
)
from soniqd.model.limits import ServerLimits
from soniqd.model.wear import TableWear

if TYPE_CHECKING:
    from soniqd.model.checkup import Checkup


class WakeUps(Protocol):
    """A subscription to wake-ups. It reconnects by itself and yields ``WakeUp()`` after each reconnect.

    ``wait`` returns at least one wake-up (several of one burst are merged per queue), or an empty tuple after
    ``timeout_s``. ``live`` is false while nothing can be heard, so that the caller polls instead.

    With ``hand_to``, each wake-up is a call on the event loop as soon as it is there, which must not raise; ``wait``
    then has only what had come before. A task that waits starts 0.05 ms later on an idle machine.
    """

    @property
    def live(self) -> bool: ...

    async def wait(self, timeout_s: float | None = None) -> tuple[WakeUp, ...]: ...

    def hand_to(self, hear: Callable[[WakeUp], None]) -> None: ...

    async def close(self) -> None: ...


class Leadership(Protocol):
    """A claim on being the only one for a name; held until lost or released, and kill -9 of the process releases it.

    One object for each name and backend: two of one backend may take themselves for one.
    """

    async def acquire(self) -> bool:
        """Try once, without waiting; True if held now (also when it was held already)."""

    async def held(self, *, max_age_s: float = 0.0) -> bool:
        """Check with the database that it is still held; a check that is no older than this is good enough."""

    async def release(self) -> None: ...


class JobStore(Protocol):
    """Enqueue, claim, complete, inspect."""

    async def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[JobId]:
        """Store jobs in one statement or transaction; return their ids in order.

        For a job whose unique or dedup key is held by a queued one, the id of the queued one is returned. Wakes
        listeners at commit, coalesced. ``connection`` is the caller's psycopg connection (async or sync is told by
        its type; a sync one raises :class:`~soniqd.errors.InvalidArgumentsError`).
        """

    async def claim(
        self, worker_id: WorkerId, *, names: Sequence[str] | None, queues: Sequence[str] | None, limit: int
    ) -> list[ClaimedJob]:
        """Take up to ``limit`` claimable jobs, best first. None for ``names`` or ``queues``: any. Skips paused queues.

        A worker that is not ``active`` in the database (swept, stopping) gets nothing.
        """

    async def claims_of(self, worker_id: WorkerId) -> list[ClaimedJob]:
        """Every job that this worker holds now, best first: the answer of a ``claim`` may have been lost on its way."""

    async def promote_due(self, *, limit: int = 1000) -> DueReport:
        """Make jobs whose time has come claimable; wakes listeners for them."""

    async def complete(self, outcomes: Sequence[Outcome]) -> frozenset[JobId]:
        """Write outcomes, each conditional on its fence, in one transaction; return the jobs that were changed.

        A job missing from the answer had been taken away: nothing was written for it. Safe to repeat after a lost
        connection: what was written before is then missing from the answer and nothing is written twice, so a
        caller that repeats must ask ``settled`` before it reports a fence as lost. If the database cannot store what
        an outcome holds, everything else is written and :class:`~soniqd.errors.OutcomeRefusedError` names the rest:
        those jobs are still held, and the caller answers with another outcome.
        """

    async def settled(self, outcomes: Sequence[Outcome]) -> frozenset[JobId]:
        """Of outcomes whose ``complete`` broke half-way: the jobs whose outcome is known to be in the database."""

    async def get_job(self, job_id: JobId) -> JobRecord | None: ...

    async def list_jobs(self, where: JobFilter) -> list[JobRecord]: ...

    async def cancel_job(self, job_id: JobId) -> CancelResult:
        """Cancel a queued job."""

    async def delete_job(self, job_id: JobId) -> bool:
        """Delete a job that is not processing, wherever it is (history and dead letters included)."""

    async def queue_stats(self) -> list[QueueStats]:
        """One row a queue, sorted by name. Numbers above 100,000 may be estimates that overlook a tiny queue."""

    async def list_queues(self) -> list[QueueRecord]: ...

    async def set_queue_paused(self, queue: str, *, paused: bool) -> bool:
        """Pause or resume; return whether that changed anything. Resuming wakes listeners."""

    async def unclaimable_names(self, *, limit: int = 50) -> Mapping[str, int]:
        """Task names of queued jobs that no live worker has registered, with counts that may stop at 1,000."""


class WorkerStore(Protocol):
    """Incarnations: register, keep alive, declare dead."""

    async def register_worker(
        self, worker: WorkerRecord, *, names: Collection[str], defaults: Mapping[str, TaskDefaults] | None = None
    ) -> None:
        """Store an incarnation, or its news, with the tasks that it knows and what its code declares about them."""

    async def heartbeat(self, workers: Sequence[WorkerId]) -> frozenset[WorkerId]:
        """Mark as alive in one statement; return those that are still not ``stopped`` (the others were swept)."""

    async def set_worker_status(self, workers: Sequence[WorkerId], status: WorkerStatus) -> None: ...

    async def list_workers(self, *, stale_after_s: float | None = None, stopped: bool = False) -> list[WorkerRecord]:
        """All that are not ``stopped``, or those that are; with ``stale_after_s`` only those with an older heartbeat.

        ``metadata["ended"]`` of a stopped one tells how it ended, where somebody knew.
        """

    async def host_leftovers(self, machine_id: str, hostname: str) -> HostLeftovers: ...

    async def release_workers(
        self,
        workers: Sequence[WorkerId],
        *,
        cause: ReleaseCause,
        max_crashes: int,
        error: str = "",
        blamed: Collection[JobId] | None = None,
    ) -> ReleaseReport:
        """Mark these incarnations stopped and take their jobs away, in one transaction.

        A ``crash`` adds one to the ``crashes`` of each job that ran, which are those ``blamed`` (None: nobody knows,
        so all), and keeps ``error`` with it; a job that reaches ``max_crashes`` becomes a dead letter with reason
        ``worker_lost``. What a dead worker only held goes back as if it had not been claimed. ``interrupted`` only
        counts an interruption. The first line of ``error`` is also kept with the workers, as ``metadata["ended"]``.
        Wakes listeners.
        """

    async def sweep(self, *, heartbeat_timeout_s: float, max_crashes: int) -> SweepReport:
        """Release every worker whose heartbeat is too old; one sweeper at a time over all hosts."""

    async def prune(self, *, limit: int = 10_000) -> PruneReport:
        """Delete a bounded number of expired history rows, old stopped workers and old ticks."""

    async def wear(self) -> TableWear | None:
        """Look at the dead rows of the table of jobs; None where nobody has to remove them."""

    async def vacuum(self) -> bool:
        """Remove the dead rows of the table of jobs, in nobody's way; False: somebody else is at it.

        It may take minutes, holds a connection for that long, and ends soon after it is cancelled.
        """


class InsightStore(Protocol):
    """Questions of people, each at a bounded cost however much is stored."""

    async def backlog(self) -> Backlog:
        """What waits in each queue, and what nobody can claim."""

    async def job_facts(self, job_id: JobId) -> JobFacts | None:
        """All that tells what a job waits for, or what became of it; None if there is no such job."""

    async def task_defaults(self, name: str, *, heard_within_s: float | None = None) -> TaskDefaults | None:
        """What workers that are not stopped say about a task together; None if none of them says anything.

        ``heard_within_s`` leaves those out whose last heartbeat is older.
        """

    async def known_tasks(self) -> Collection[str]:
        """The tasks that workers know which are not stopped."""

    async def leader(self, name: str) -> LeaderRecord | None:
        """Who holds a leadership now, on any host."""


class DeadLetterStore(Protocol):
    """Jobs that failed for good. Rows are dicts with the columns of soniq_dead_letter_jobs, ``args`` decoded."""

    async def list_dead_letters(self, where: DeadLetterFilter) -> list[dict[str, Any]]: ...

    async def get_dead_letter(self, job_id: JobId) -> dict[str, Any] | None: ...

    async def replay_dead_letter(
        self,
        job_id: JobId,
        new_id: JobId,
        *,
        max_attempts: int | None = None,
        priority: int | None = None,
        queue: str | None = None,
    ) -> JobId | None:
        """Store a fresh queued job made from a dead letter and count it there; None if there is no such row."""

    async def delete_dead_letter(self, job_id: JobId) -> bool: ...


class ScheduleStore(Protocol):
    """Recurring jobs; a tick is enqueued once, however many schedulers try."""

    async def put_schedules(self, specs: Sequence[ScheduleSpec], first_runs: Mapping[str, datetime]) -> None:
        """Store declarations by name; never un-pauses one.

        An unchanged one keeps ``next_run``; a new one, or one whose type, value or timezone changed, starts at its
        entry of ``first_runs``.
        """

    async def list_schedules(self) -> list[ScheduleRecord]: ...

    async def set_schedule_paused(self, name: str, *, paused: bool) -> bool:
        """Return whether a schedule of that name exists."""

    async def remove_schedule(self, name: str) -> bool: ...

    async def fire(self, ticks: Sequence[tuple[Tick, NewJob]], *, schedule: str, next_run: datetime) -> list[JobId]:
        """In one transaction: enqueue the job of each tick not fired yet and move ``next_run`` forward.

        Returns the ids of the jobs stored now. A paused or removed schedule stores nothing.
        """

    async def now(self) -> datetime:
        """The database's clock, aware."""


class StorageBackend(JobStore, WorkerStore, InsightStore, DeadLetterStore, ScheduleStore, Protocol):
    """Everything together, with its lifecycle."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def location(self) -> str:
        """Where it stores, for people: no password."""

    async def open(self) -> None:
        """Connect. Idempotent. Does not create tables, except in memory and for a new SQLite file."""

    async def close(self) -> None:
        """Give every resource back. Idempotent."""

    async def ping(self) -> None:
        """One round trip; raises what is wrong."""

    async def check_schema(self) -> None:
        """Raise :class:`~soniqd.errors.SchemaError` unless every migration of this release is applied."""

    async def connection_limits(self) -> ServerLimits | None:
        """Read how many connections its server allows; None where it has no server, or where a pooler hides it."""

    async def checkup(self) -> Checkup:
        """Collect what tells how healthy the database is, and change nothing; also of one that lacks migrations."""

    async def setup(self) -> MigrationStatus:
        """Create the database if it is missing and apply pending migrations, one caller at a time.

        ``pending`` in the answer are those applied now.
        """

    async def migration_status(self) -> MigrationStatus: ...

    async def subscribe(self) -> WakeUps: ...

    def leadership(self, name: str) -> Leadership: ...

    def acquire(self) -> AbstractAsyncContextManager[Any]:
        """Lend a pooled connection for raw SQL; raises UnsupportedByBackendError where there is none to lend."""

    async def reset(self) -> None:
        """Delete all rows. For tests."""
