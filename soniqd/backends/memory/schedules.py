"""Schedules in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from soniqd.backends.memory.state import MemoryState, StoredSchedule
from soniqd.backends.records import from_epoch
from soniqd.model import JobId, NewJob, ScheduleRecord, ScheduleSpec, Tick


class MemorySchedules:
    """The protocol's ScheduleStore over a :class:`MemoryState`."""

    _state: MemoryState

    async def put_schedules(self, specs: Sequence[ScheduleSpec], first_runs: Mapping[str, datetime]) -> None:
        for spec in specs:
            stored = self._state.schedules.get(spec.name)
            first_run = first_runs[spec.name].timestamp()
            if stored is None:
                self._state.schedules[spec.name] = StoredSchedule(spec, first_run)
                continue
            if _timing(stored.spec) != _timing(spec):
                stored.next_run = first_run
            stored.spec = spec

    async def list_schedules(self) -> list[ScheduleRecord]:
        return [_record(self._state.schedules[name]) for name in sorted(self._state.schedules)]

    async def set_schedule_paused(self, name: str, *, paused: bool) -> bool:
        stored = self._state.schedules.get(name)
        if stored is None:
            return False
        stored.paused = paused
        return True

    async def remove_schedule(self, name: str) -> bool:
        return self._state.schedules.pop(name, None) is not None

    async def fire(self, ticks: Sequence[tuple[Tick, NewJob]], *, schedule: str, next_run: datetime) -> list[JobId]:
        stored = self._state.schedules.get(schedule)
        if stored is None or stored.paused:
            return []
        fired = []
        for tick, job in ticks:
            key = (tick.schedule, tick.at.timestamp())
            if key in self._state.ticks:
                continue
            job_id, new = self._state.store(job)
            self._state.ticks[key] = job_id
            stored.last_run = max(key[1], stored.last_run or key[1])
            if new:
                stored.last_job_id = job_id
                stored.run_count += 1
                fired.append(job_id)
        stored.next_run = max(stored.next_run, next_run.timestamp())
        return fired

    async def now(self) -> datetime:
        return datetime.fromtimestamp(self._state.clock(), UTC)


def _timing(spec: ScheduleSpec) -> tuple[str, str, str]:
    return spec.type, spec.value, spec.timezone


def _record(stored: StoredSchedule) -> ScheduleRecord:
    return ScheduleRecord(
        spec=stored.spec,
        paused=stored.paused,
        next_run=from_epoch(stored.next_run),
        last_run=from_epoch(stored.last_run),
        last_job_id=stored.last_job_id,
        run_count=stored.run_count,
    )
