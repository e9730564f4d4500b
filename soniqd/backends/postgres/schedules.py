"""Schedules and their ticks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from soniqd.backends.postgres.database import Database
from soniqd.backends.postgres.enqueue import store
from soniqd.backends.postgres.statements import SQL
from soniqd.model import JobId, NewJob, ScheduleRecord, ScheduleSpec, Tick


class PostgresSchedules:
    """The protocol's ScheduleStore."""

    _database: Database

    async def put_schedules(self, specs: Sequence[ScheduleSpec], first_runs: Mapping[str, datetime]) -> None:
        async with self._database.transaction("store schedules") as transaction:
            # In the order of their names, so that two processes that start together do not wait in a circle.
            for spec in sorted(specs, key=lambda spec: spec.name):
                await transaction.fetch(SQL["put_schedule"], _parameters(spec, first_runs[spec.name]))

    async def list_schedules(self) -> list[ScheduleRecord]:
        rows = await self._database.fetch(SQL["list_schedules"], {}, rows="dict", repeat=True)
        return [_record(row) for row in rows]

    async def set_schedule_paused(self, name: str, *, paused: bool) -> bool:
        parameters = {"name": name, "status": "paused" if paused else "active"}
        return bool(await self._database.fetch(SQL["set_schedule_status"], parameters, repeat=True))

    async def remove_schedule(self, name: str) -> bool:
        return bool(await self._database.fetch(SQL["remove_schedule"], {"name": name}))

    async def fire(self, ticks: Sequence[tuple[Tick, NewJob]], *, schedule: str, next_run: datetime) -> list[JobId]:
        async with self._database.transaction("fire a schedule") as transaction:
            if not await transaction.fetch(SQL["lock_schedule"], {"name": schedule}):
                return []
            columns = {
                "schedules": [tick.schedule for tick, _ in ticks],
                "ticks": [tick.at for tick, _ in ticks],
                "job_ids": [job.id for _, job in ticks],
            }
            new = {row[0] for row in await transaction.fetch(SQL["store_ticks"], columns)}
            fired = [(tick, job) for tick, job in ticks if job.id in new]
            stored_ids = await store(transaction, [job for _, job in fired])
            # A job whose key a queued twin holds is not stored again; its tick is fired all the same.
            stored = [job.id for (_, job), stored_id in zip(fired, stored_ids, strict=True) if job.id == stored_id]
            moved = {
                "name": schedule,
                "next_run": next_run,
                "last_run": max((tick.at for tick, _ in fired), default=None),
                "last_job_id": stored[-1] if stored else None,
                "stored": len(stored),
            }
            await transaction.fetch(SQL["move_schedule"], moved)
            return stored

    async def now(self) -> datetime:
        [(now,)] = await self._database.fetch(SQL["now"], {}, repeat=True)
        assert isinstance(now, datetime)
        return now


def _parameters(spec: ScheduleSpec, first_run: datetime) -> dict[str, Any]:
    return {
        "name": spec.name,
        "job_name": spec.job_name,
        "type": spec.type,
        "value": spec.value,
        "priority": spec.priority,
        "queue": spec.queue,
        "max_attempts": spec.max_attempts,
        "args": spec.args_json,
        "timezone": spec.timezone,
        "missed": spec.missed,
        "first_run": first_run,
    }


def _record(row: dict[str, Any]) -> ScheduleRecord:
    spec = ScheduleSpec(
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
    )
    return ScheduleRecord(
        spec=spec,
        paused=row["paused"],
        next_run=row["next_run"],
        last_run=row["last_run"],
        last_job_id=row["last_job_id"],
        run_count=row["run_count"],
    )
