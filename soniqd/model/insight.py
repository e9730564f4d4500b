"""What people ask about: why a job waits, how much waits where, what a task is like, who leads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain

from soniqd.model.job import JobRecord, WorkerId
from soniqd.model.worker import WorkerRecord

COUNTED_TO = 10_000
"""Questions about a backlog count no further than this: asking must cost the same however much waits."""


UNKNOWN_COUNTED_TO = 1_000
"""The same for the jobs of one task name that nobody knows: that there are many is all that matters."""


@dataclass(frozen=True, slots=True)
class TaskDefaults:
    """How a worker's code declares a task. ``timeout_s`` is the one that the worker applies; 0 is no limit.

    ``required`` are the arguments that a job has to have, ``accepted`` those that it may have; None is not known, for
    ``accepted`` also any.
    """

    queue: str = "default"
    priority: int = 100
    max_attempts: int = 4
    timeout_s: float = 0.0
    unique: bool = False
    required: tuple[str, ...] | None = None
    accepted: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """What was stored as JSON has lists."""
        for name in ("required", "accepted"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(value))

    @classmethod
    def agreed(cls, said: Iterable[TaskDefaults | None]) -> TaskDefaults | None:
        """Return what workers say together, the newest first: arguments that any of them takes are not refused.

        While one release replaces another, a job is for those of either.
        """
        everyone = tuple(said)
        newest = next((one for one in everyone if one is not None), None)
        if newest is None:
            return None
        required = [one.required for one in everyone if one is not None and one.required is not None]
        accepted = [one.accepted for one in everyone if one is not None and one.accepted is not None]
        by_all = tuple(name for name in newest.required or () if all(name in names for names in required))
        by_any = tuple(dict.fromkeys(chain.from_iterable(accepted)))
        return replace(
            newest,
            required=by_all if len(required) == len(everyone) else None,
            accepted=by_any if len(accepted) == len(everyone) else None,
        )


@dataclass(frozen=True, slots=True)
class QueueBacklog:
    """One queue. ``ready`` can be claimed now, ``later`` has a time to come, ``processing`` is held by workers.

    Counts stop at COUNTED_TO; ``ready_more`` and ``later_more`` tell that there are more. ``oldest_s`` is for how long
    the ready job that waits the longest has been ready, as far as the heads of the queue show it.
    """

    queue: str
    paused: bool = False
    ready: int = 0
    ready_more: bool = False
    later: int = 0
    later_more: bool = False
    processing: int = 0
    oldest_s: float | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """All queues that hold something or are paused, by name.

    ``unclaimable`` counts the queued jobs of task names that no live worker knows, each up to
    UNKNOWN_COUNTED_TO; ``complete`` is false if there are more queues or task names than were looked at.
    """

    queues: tuple[QueueBacklog, ...] = ()
    unclaimable: Mapping[str, int] = field(default_factory=dict)
    complete: bool = True


@dataclass(frozen=True, slots=True)
class LeaderRecord:
    """Who leads, by its own account; ``pid`` None if it did not say."""

    hostname: str
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class JobFacts:
    """All that the database knows about what a job waits for.

    ``now`` is the database's clock. ``ahead`` counts the jobs of its queue that will be claimed first, up to
    COUNTED_TO + 1; None if the job is not claimable now. ``workers`` are all that are not stopped, ``knowers`` those
    that registered its task. A held job whose worker is not among ``workers`` belongs to a dead one.
    """

    record: JobRecord
    now: datetime
    queue_paused: bool = False
    ahead: int | None = None
    workers: tuple[WorkerRecord, ...] = ()
    knowers: frozenset[WorkerId] = frozenset()
    defaults: TaskDefaults | None = None
    dead_letter_reason: str | None = None
    replayed: int = 0
