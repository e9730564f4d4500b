"""Schedules in SQLite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from soniqd.backends.records import from_epoch
from soniqd.backends.sqlite.access import Access
from soniqd.backends.sqlite.enqueueing import store_jobs
from soniqd.backends.sqlite.inspection import mappings
from soniqd.backends.sqlite.transaction import Transaction
from soniqd.model import JobId, NewJob, ScheduleRecord, ScheduleSpec, Tick


class SQLiteSchedules:
    """The protocol's ScheduleStore."""

    _access: Access

    async def put_schedules(self, specs: Sequence[ScheduleSpec], first_runs: Mapping[str, datetime]) -> None:
        await self._access.write(lambda tx: _put_all(tx, specs, first_runs))

    async def list_schedules(self) -> list[ScheduleRecord]:
        return [_record(row) for row in await self._access.read(lambda db: mappings(db, "schedules"))]

    async def set_schedule_paused(self, name: str, *, paused: bool) -> bool:
        status = "paused" if paused else "active"
        return await self._access.write(lambda tx: tx.run("pause_schedule", (status, tx.now, name)).rowcount > 0)

    async def remove_schedule(self, name: str) -> bool:
        return await self._access.write(lambda tx: tx.run("remove_schedule", (name,)).rowcount > 0)

    async def fire(self, ticks: Sequence[tuple[Tick, NewJob]], *, schedule: str, next_run: datetime) -> list[JobId]:
        return await self._access.write(lambda tx: _fire(tx, ticks, schedule, next_run))

    async def now(self) -> datetime:
        return datetime.fromtimestamp(self._access.now(), UTC)


def _put_all(tx: Transaction, specs: Sequence[ScheduleSpec], first_runs: Mapping[str, datetime]) -> None:
    for spec in specs:
        _put(tx, spec, first_runs[spec.name])


def _put(tx: Transaction, spec: ScheduleSpec, first_run: datetime) -> None:
    tx.run(
        "put_schedule",
        (
            spec.name,
            spec.job_name,
            spec.type,
            spec.value,
            spec.timezone,
            spec.missed,
            spec.queue,
            spec.priority,
            spec.max_attempts,
            spec.args_json,
            first_run.timestamp(),
            tx.now,
            tx.now,
        ),
    )


def _fire(tx: Transaction, ticks: Sequence[tuple[Tick, NewJob]], schedule: str, next_run: datetime) -> list[JobId]:
    if tx.value("may_fire", (schedule,)) is None:
        return []
    fired: list[JobId] = []
    last_run: float | None = None
    for tick, job in ticks:
        at = tick.at.timestamp()
        if tx.run("record_tick", (tick.schedule, at, job.id)).rowcount == 0:
            continue
        last_run = at if last_run is None else max(last_run, at)
        [(job_id, is_new)] = store_jobs(tx, [job])
        if is_new:
            fired.append(job_id)
    last_job_id = fired[-1] if fired else None
    values = {"next_run": next_run.timestamp(), "last_run": last_run, "last_job_id": last_job_id, "fired": len(fired)}
    tx.run("advance", {**values, "now": tx.now, "name": schedule})
    return fired


def _record(row: Mapping[str, Any]) -> ScheduleRecord:
    return ScheduleRecord(
        spec=ScheduleSpec(
            name=row["name"],
            job_name=row["job_name"],
            type=row["schedule_type"],
            value=row["schedule_value"],
            args_json=row["job_kwargs"],
            queue=row["queue"],
            priority=row["priority"],
            max_attempts=row["max_attempts"],
            timezone=row["timezone"],
            missed=row["missed"],
        ),
        paused=row["status"] == "paused",
        next_run=from_epoch(row["next_run"]),
        last_run=from_epoch(row["last_run"]),
        last_job_id=row["last_job_id"],
        run_count=row["run_count"],
    )
