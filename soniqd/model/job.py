"""A job, before its claim, while it is claimed, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, NewType, TypedDict

JobId = NewType("JobId", str)
"""Canonical text of the job's UUID."""

WorkerId = NewType("WorkerId", str)
"""Canonical text of a worker incarnation's UUID: a new one for every process that claims jobs."""


class JobStatus(StrEnum):
    """Where a job is. ``dead_letter`` is reported for jobs that live in the dead-letter table only."""

    QUEUED = "queued"
    PROCESSING = "processing"
    DONE = "done"
    CANCELLED = "cancelled"
    DEAD_LETTER = "dead_letter"


class NewJob(NamedTuple):
    """A job to store. At most one of ``run_at`` (aware) and ``delay_s`` (counted by the database's clock) is set."""

    id: JobId
    name: str
    args_json: str
    queue: str = "default"
    priority: int = 100
    max_attempts: int = 4
    unique: bool = False
    args_hash: str | None = None
    dedup_key: str | None = None
    run_at: datetime | None = None
    delay_s: float | None = None
    producer_id: str | None = None


class Fence(NamedTuple):
    """What a later write has to show: the claim that it answers, still being the job's newest."""

    job_id: JobId
    worker_id: WorkerId
    claim_no: int


class ClaimedJob(NamedTuple):
    """A job that a worker has taken. ``attempts`` counts finished attempts; the one to come is ``attempts + 1``."""

    fence: Fence
    name: str
    args_json: str
    queue: str
    priority: int
    attempts: int
    max_attempts: int
    crashes: int
    scheduled_at: datetime | None
    created_at: datetime | None


class Done(NamedTuple):
    """The handler returned. ``result_ttl_s`` 0 keeps no row; ``result_json`` None stands for "no result"."""

    fence: Fence
    result_json: str | None
    result_ttl_s: float


@dataclass(frozen=True, slots=True)
class Retry:
    """The attempt failed and another one is left; the job is due again after ``delay_s``."""

    fence: Fence
    delay_s: float
    error: str


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The handler asked to be run again later; no attempt is used."""

    fence: Fence
    delay_s: float
    reason: str | None


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """The last attempt failed, or the job can never succeed; ``reason`` is a short stable word."""

    fence: Fence
    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class Released:
    """The worker gives the job back unused. ``interrupted`` tells a cancelled run from a claim never started."""

    fence: Fence
    interrupted: bool


Outcome = Done | Retry | Snoozed | DeadLettered | Released


class JobRecord(TypedDict):
    """A job as ``get_job`` shows it. Times are ISO 8601 with offset; ``args`` and ``result`` are decoded."""

    id: str
    job_name: str
    args: Any
    status: str
    queue: str
    priority: int
    attempts: int
    max_attempts: int
    crashes: int
    interruptions: int
    unique_job: bool
    dedup_key: str | None
    producer_id: str | None
    worker_id: str | None
    last_error: str | None
    result: Any
    created_at: str | None
    updated_at: str | None
    scheduled_at: str | None
    started_at: str | None
    finished_at: str | None
    expires_at: str | None


class QueueStats(TypedDict):
    """Counts of one queue's jobs; ``total`` is the sum of the other five."""

    queue: str
    total: int
    queued: int
    processing: int
    done: int
    dead_letter: int
    cancelled: int
