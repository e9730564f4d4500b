"""Storage: one protocol, three implementations (postgres/, sqlite/, memory), one conformance suite over all of them.

A backend stores jobs, workers, dead letters and schedules, and tells when there is something to claim. It knows no
handler and no process. Callers never ask which backend they have: what differs is declared in
:class:`Capabilities`.

Rules that every backend keeps:

* **Fences.** A claim stamps the row with the worker's incarnation id and a claim number that only grows. Every later
  write about that job is conditional on both, and reports which jobs it really changed.
* **One place.** Queued and processing jobs live in the hot table; done and cancelled ones in the history; failed for
  good in the dead letters. Each move is one statement or one transaction.
* **Counters apart.** ``attempts`` grows with an outcome of the handler, ``crashes`` with a worker that died under the
  job, ``interruptions`` with a drain that cut it short. A claim that never started counts nowhere.
* **Requeueing never fails on a twin.** Where an unclaimed twin holds the same dedup or unique key, the job that comes
  back gives its key up and stays a job.
* **Order.** Claims go by priority (lower first), then by ``seq`` (arrival). A job that comes back keeps its ``seq``.
* **The database's clock** decides what is due, what is stale and when something expires.
* **Errors.** A connection that is lost or refused raises :class:`~soniqd.errors.DatabaseUnavailableError`; a missing or
  foreign schema :class:`~soniqd.errors.SchemaError`; both without the password in the text.

Concurrency: methods may be called from several tasks of one event loop at once. A backend belongs to the loop (and
the process) in which it was opened: it must be opened after a fork, never before.
"""

from soniqd.backends.protocol import Leadership, StorageBackend, WakeUps
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
    ReleaseReport,
    SweepReport,
    WakeUp,
)

__all__ = [
    "CancelResult",
    "Capabilities",
    "DeadLetterFilter",
    "DueReport",
    "HostLeftovers",
    "JobFilter",
    "Leadership",
    "MigrationStatus",
    "PruneReport",
    "QueueRecord",
    "ReleaseReport",
    "StorageBackend",
    "SweepReport",
    "WakeUp",
    "WakeUps",
]
