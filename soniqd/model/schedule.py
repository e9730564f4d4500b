"""Recurring jobs: what was declared, what is stored, and one tick of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

ScheduleType = Literal["cron", "interval"]
MissedPolicy = Literal["all", "latest", "skip"]


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """A declared recurring job. ``name`` is unique; ``value`` is a cron expression or a number of seconds as text.

    ``timezone`` is an IANA name and counts for cron only. ``missed`` says what becomes of ticks that nobody was
    there to fire: each of them, the latest one, or none.
    """

    name: str
    job_name: str
    type: ScheduleType
    value: str
    args_json: str = "{}"
    queue: str = "default"
    priority: int = 100
    max_attempts: int = 4
    timezone: str = "UTC"
    missed: MissedPolicy = "all"


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """A stored schedule. ``next_run`` is the first tick not fired yet; it survives every restart."""

    spec: ScheduleSpec
    paused: bool
    next_run: datetime | None
    last_run: datetime | None
    last_job_id: str | None
    run_count: int


@dataclass(frozen=True, slots=True)
class Tick:
    """One instant of one schedule; its pair (schedule, at) exists at most once in the database."""

    schedule: str
    at: datetime
