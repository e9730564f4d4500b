"""Fires what is due, and says when to look again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from soniqd.backends.protocol import ScheduleStore
from soniqd.log import catalogue, emit
from soniqd.model import JobId, NewJob, ScheduleRecord, ScheduleSpec, Tick
from soniqd.policy.cron import DueTicks, next_ticks
from soniqd.queue.ids import new_job_id
from soniqd.scheduler.clock import DatabaseClock

_AT_ONCE = 500  # ticks in one transaction


@dataclass(frozen=True, slots=True)
class Agenda:
    """What the stored schedules ask for: those due now, and when the next one is."""

    due: tuple[ScheduleRecord, ...]
    next_at: datetime | None


def agenda(records: list[ScheduleRecord], now: datetime) -> Agenda:
    """Sort out stored schedules; paused ones ask for nothing."""
    active = [(record.next_run, record) for record in records if not record.paused and record.next_run is not None]
    due = sorted((pair for pair in active if pair[0] <= now), key=lambda pair: pair[0])
    later = [next_run for next_run, _ in active if next_run > now]
    return Agenda(tuple(record for _, record in due), min(later, default=None))


class Ticker:
    """Fires the ticks of due schedules; each (schedule, tick) pair is unique in the database."""

    def __init__(self, store: ScheduleStore, clock: DatabaseClock) -> None:
        self._store = store
        self._clock = clock
        self.fired = 0
        self._refused: set[ScheduleSpec] = set()

    def accepts(self, record: ScheduleRecord) -> bool:
        """False for a schedule that could not be understood, until it is changed."""
        return record.spec not in self._refused

    async def fire(self, record: ScheduleRecord, *, may_go_on: Callable[[], bool]) -> None:
        """Fire what is due of one schedule, in bounded transactions; stops between two when told to."""
        due = self._due(record)
        if due is None:
            return
        for ticks, next_run in _batches(due):
            if not may_go_on():
                return
            jobs = [(Tick(record.spec.name, at), _job(record)) for at in ticks]
            stored = await self._store.fire(jobs, schedule=record.spec.name, next_run=next_run)
            self._report(record, ticks, stored)

    def _due(self, record: ScheduleRecord) -> DueTicks | None:
        """Return None for a schedule that cannot be understood: it is reported once and hinders no other."""
        assert record.next_run is not None
        try:
            due = next_ticks(record.spec, record.next_run, self._clock.now())
        except (ValueError, KeyError, OSError, OverflowError) as error:
            self._refused.add(record.spec)
            emit(catalogue.SCHEDULE_REFUSED, schedule=record.spec.name, value=record.spec.value, error=str(error))
            return None
        return due

    def _report(self, record: ScheduleRecord, ticks: tuple[datetime, ...], stored: list[JobId]) -> None:
        self.fired += len(stored)
        if stored:
            emit(
                catalogue.SCHEDULE_FIRED,
                schedule=record.spec.name,
                job_name=record.spec.job_name,
                count=len(stored),
                late_s=-self._clock.until_s(ticks[-1]),
            )


def _batches(due: DueTicks) -> Iterator[tuple[tuple[datetime, ...], datetime]]:
    """Yield ticks with the ``next_run`` to store beside them; once with no tick if all that was due is skipped."""
    starts = range(0, len(due.fire), _AT_ONCE) if due.fire else range(1)
    for start in starts:
        end = start + _AT_ONCE
        yield due.fire[start:end], due.fire[end] if end < len(due.fire) else due.next_run


def _job(record: ScheduleRecord) -> NewJob:
    spec = record.spec
    return NewJob(
        id=new_job_id(),
        name=spec.job_name,
        args_json=spec.args_json,
        queue=spec.queue,
        priority=spec.priority,
        max_attempts=spec.max_attempts,
    )
