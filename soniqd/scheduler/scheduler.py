"""The scheduler's life: declare, follow, lead, stop."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from soniqd.backends import StorageBackend
from soniqd.control.link import State
from soniqd.errors import DatabaseError, SchemaError
from soniqd.log import catalogue, emit
from soniqd.log.redact import redact
from soniqd.model import ScheduleSpec
from soniqd.policy.cron import first_run
from soniqd.scheduler.clock import DatabaseClock
from soniqd.scheduler.leader import Leader
from soniqd.scheduler.ticker import Agenda, Ticker, agenda

FOLLOW_S = 0.5
"""How often a follower tries to lead: a dead leader is replaced within about that."""

REREAD_S = 10.0
"""How long the leader goes by what it has read; nothing is fired by what is older than PREPARE_S."""

PREPARE_S = 0.1
"""How long before a tick the leader checks that it leads and rereads, so that the tick itself waits for nothing."""

BELIEVE_S = 30.0
"""How long a leader with nothing to fire believes that it leads, as long as its connection stands."""

_LONGEST_PAUSE_S = 1.0


class Scheduler:
    """Fires recurring jobs while it leads. Its methods belong to the loop that runs it.

    ``on_ready`` is called once the schedules are declared; ``on_change`` when ``state()`` may differ.
    """

    def __init__(self, *, backend: StorageBackend, specs: Sequence[ScheduleSpec] = ()) -> None:
        self.on_change: Callable[[], None] | None = None
        self.on_ready: Callable[[], None] | None = None
        self._backend = backend
        self._specs = tuple(specs)
        self._clock = DatabaseClock(backend)
        self._leader = Leader(backend.leadership("scheduler"))
        self._ticker = Ticker(backend, self._clock)
        self._changed = asyncio.Event()
        self._stopped = False
        self._paused = False
        self._phase = "starting"
        self._lost_at: float | None = None

    async def run(self) -> None:
        """Follow and lead until stopped; raises SchemaError if the database has no tables to begin with.

        Tables that go later (a database that is restored or made anew) are waited for, and the schedules declared
        again.
        """
        declared = has_worked = False
        try:
            while not self._stopped:
                try:
                    if not declared:
                        await self._declare()
                        declared = has_worked = True
                    await self._take_part()
                except DatabaseError as error:
                    if isinstance(error, SchemaError):
                        if not has_worked:
                            raise
                        declared = False
                    await self._wait_for_database(error)
        finally:
            await self._leader.release()

    def wake(self) -> None:
        """Reread the schedules now: they changed."""
        self._changed.set()

    def pause(self) -> None:
        """Fire nothing, and let another one lead."""
        self._paused = True
        self._changed.set()

    def resume(self) -> None:
        """Take part again."""
        self._paused = False
        self._changed.set()

    def stop(self) -> None:
        """Let ``run`` return; another scheduler can lead at once."""
        self._stopped = True
        self._set_phase("draining")
        self._changed.set()

    def drain(self, timeout_s: float) -> None:  # noqa: ARG002  what a worker needs, a scheduler is faster than
        """Stop."""
        self.stop()

    def state(self) -> State:
        """Return what it is doing now; ``done`` counts ticks fired."""
        return State(phase=self._phase, done=self._ticker.fired)

    async def _declare(self) -> None:
        """Store what the application declares; a schedule that is stored already keeps its next tick."""
        await self._clock.refresh()
        now = self._clock.now()
        await self._backend.put_schedules(self._specs, {spec.name: first_run(spec, now) for spec in self._specs})
        if self.on_ready is not None:
            self.on_ready()

    async def _take_part(self) -> None:
        """Take one turn: as a leader until the next tick, else until the next try."""
        if self._paused:
            await self._leader.release()
            self._set_phase("paused")
            await self._sleep(REREAD_S)
        elif await self._leader.seek():
            self._set_phase("leading")
            await self._lead()
        else:
            self._database_is_back()
            self._set_phase("following")
            await self._sleep(FOLLOW_S * (0.5 + random.random() / 2))  # noqa: S311  spreads load only

    async def _lead(self) -> None:
        """Fire until leadership is lost, or there is something else to do."""
        while self._goes_on() and await self._leader.confirm(max_age_s=BELIEVE_S):
            await self._clock.refresh()
            records = [record for record in await self._backend.list_schedules() if self._ticker.accepts(record)]
            plan = agenda(records, self._clock.now())
            if self._is_near(plan) and not await self._leader.confirm():
                return
            if not plan.due:
                self._database_is_back()  # a lock that can be had does not say that ticks can be read and fired
                if not await self._wait_for(plan.next_at):
                    continue
                plan = agenda(records, self._clock.now())
            for record in plan.due:
                await self._ticker.fire(record, may_go_on=self._goes_on)

    def _is_near(self, plan: Agenda) -> bool:
        return bool(plan.due) or (plan.next_at is not None and self._clock.until_s(plan.next_at) <= PREPARE_S)

    async def _wait_for(self, next_at: datetime | None) -> bool:
        """Wait for the next tick; False if the schedules have to be read again before it."""
        left_s = REREAD_S if next_at is None else self._clock.until_s(next_at)
        if next_at is None or left_s > PREPARE_S:
            await self._sleep(min(REREAD_S, left_s - PREPARE_S / 2 if next_at else left_s))
            return False
        while left_s > 0:
            if await self._sleep(left_s):
                return False
            left_s = self._clock.until_s(next_at)
        return True

    def _goes_on(self) -> bool:
        return not (self._stopped or self._paused)

    async def _sleep(self, timeout_s: float) -> bool:
        """Sleep; return whether something changed before ``timeout_s`` had passed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        changed = self._changed.is_set()
        self._changed.clear()
        return changed

    async def _wait_for_database(self, error: DatabaseError) -> None:
        now = time.monotonic()
        if self._lost_at is None:
            self._lost_at = now
            emit(catalogue.SCHEDULER_DATABASE_LOST, error=redact(f"{type(error).__name__}: {error}"))
        self._clock.forget()
        if not self._stopped:
            self._set_phase("waiting_for_database")
            pause_s = max(0.05, min(_LONGEST_PAUSE_S, (now - self._lost_at) * 0.3))
            await self._sleep(pause_s * (0.5 + random.random() / 2))  # noqa: S311  spreads load only

    def _database_is_back(self) -> None:
        if self._lost_at is not None:
            emit(catalogue.SCHEDULER_DATABASE_BACK, outage_s=time.monotonic() - self._lost_at)
            self._lost_at = None

    def _set_phase(self, phase: str) -> None:
        if phase != self._phase and not (self._stopped and phase != "draining"):
            self._phase = phase
            if self.on_change is not None:
                self.on_change()
