"""Frozen values that the layers hand to each other.

Nothing here does I/O, reads a clock or knows a database. A job travels as :class:`NewJob` (to be stored),
:class:`ClaimedJob` (taken by a worker, together with its fence) and one of the outcomes (what became of it).
Every outcome carries the fence of the claim that it answers, so that a write by a worker that has lost the job
since changes nothing.

Units stand in the names: ``*_s`` are seconds. Ids are the canonical text form of a UUID.
"""

from soniqd.model.child import ChildSpec, ExitCause, GroupPlan, Role, Slot
from soniqd.model.insight import Backlog, JobFacts, LeaderRecord, QueueBacklog, TaskDefaults
from soniqd.model.job import (
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
)
from soniqd.model.schedule import ScheduleRecord, ScheduleSpec, ScheduleType, Tick
from soniqd.model.worker import ProcessIdentity, WorkerRecord, WorkerStatus

__all__ = [
    "Backlog",
    "ChildSpec",
    "ClaimedJob",
    "DeadLettered",
    "Done",
    "ExitCause",
    "Fence",
    "GroupPlan",
    "JobFacts",
    "JobId",
    "JobRecord",
    "JobStatus",
    "LeaderRecord",
    "NewJob",
    "Outcome",
    "ProcessIdentity",
    "QueueBacklog",
    "QueueStats",
    "Released",
    "Retry",
    "Role",
    "ScheduleRecord",
    "ScheduleSpec",
    "ScheduleType",
    "Slot",
    "Snoozed",
    "TaskDefaults",
    "Tick",
    "WorkerId",
    "WorkerRecord",
    "WorkerStatus",
]
