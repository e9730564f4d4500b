"""A worker process as the database and other hosts see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from soniqd.model.job import WorkerId


class WorkerStatus(StrEnum):
    """``stopping`` workers drain: they claim nothing and still hold jobs; ``stopped`` ones hold none."""

    ACTIVE = "active"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """Names one process for good: a pid alone is reused, and means nothing on another host.

    ``machine_id`` and ``hostname`` name the host, ``boot_id`` its current boot, ``pid_namespace`` the inode of the
    pid namespace, ``start_ticks`` field 22 of /proc/PID/stat (see proc_pid_stat(5)).
    """

    machine_id: str
    hostname: str
    boot_id: str
    pid_namespace: int
    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """One incarnation. ``heartbeat_age_s`` and ``started_at`` are by the database's clock; None before it is stored."""

    id: WorkerId
    process: ProcessIdentity
    queues: tuple[str, ...]
    concurrency: int
    status: WorkerStatus = WorkerStatus.ACTIVE
    version: str = ""
    supervised: bool = False
    slot: str = ""
    heartbeat_age_s: float | None = None
    started_at: datetime | None = None
    jobs_processing: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)
