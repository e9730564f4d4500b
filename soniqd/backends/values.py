"""The values that a storage backend's methods take and answer with: filters, reports, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from soniqd.model import JobId, QueueStats, WorkerId, WorkerRecord

ReleaseCause = Literal["crash", "interrupted"]
CancelResult = Literal["cancelled", "processing", "finished", "missing"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do beyond the protocol's common ground."""

    name: str
    transactional_enqueue: bool
    """``enqueue(connection=...)`` joins the caller's transaction."""
    multi_process: bool
    """Other processes see the same jobs; false for memory only."""
    multi_host: bool
    """Workers of other hosts can share it, so that a sweep makes sense."""


@dataclass(frozen=True, slots=True)
class DueReport:
    """What ``promote_due`` did: how many jobs became claimable, and in how many seconds the next one is due."""

    promoted: int
    next_due_s: float | None


@dataclass(frozen=True, slots=True)
class ReleaseReport:
    """Jobs taken from dead incarnations: back in their queues, and those that had crashed too often."""

    requeued: tuple[JobId, ...] = ()
    dead_lettered: tuple[JobId, ...] = ()


@dataclass(frozen=True, slots=True)
class SweepReport:
    """Incarnations declared dead by their heartbeat, and what was released.

    ``ran`` is false if another host is sweeping now.
    """

    ran: bool
    workers: tuple[WorkerId, ...] = ()
    released: ReleaseReport = field(default_factory=ReleaseReport)


@dataclass(frozen=True, slots=True)
class PruneReport:
    """Rows deleted because nobody needs them any more, by kind."""

    history: int = 0
    workers: int = 0
    ticks: int = 0


@dataclass(frozen=True, slots=True)
class HostLeftovers:
    """Workers of one machine that are not marked stopped, for a new master to judge."""

    workers: tuple[WorkerRecord, ...]


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """``applied`` and ``pending`` are file stems in order; ``foreign`` are versions this release does not know.

    ``created``: the database itself was made now.
    """

    applied: tuple[str, ...]
    pending: tuple[str, ...]
    foreign: tuple[str, ...] = ()
    created: bool = False


@dataclass(frozen=True, slots=True)
class QueueRecord:
    """A queue with its state; ``oldest_queued_s`` is the age of the oldest claimable job, as far as was looked.

    ``estimated``: there is too much to count it; some of the numbers are good guesses.
    """

    name: str
    paused: bool
    stats: QueueStats
    oldest_queued_s: float | None
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Narrows ``list_jobs``; newest first."""

    queue: str | None = None
    status: str | None = None
    name: str | None = None
    worker_id: WorkerId | None = None
    limit: int = 100
    offset: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Narrows dead letters; newest first. Empty tuples and None match everything."""

    job_names: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    replayed: bool | None = None
    limit: int = 100
    offset: int = 0


@dataclass(frozen=True, slots=True)
class WakeUp:
    """Something changed. ``queue`` names where a job became claimable; None: anything may have changed, look.

    ``due_in_s`` announces a job stored for later, in seconds from now.
    """

    queue: str | None = None
    due_in_s: float | None = None
