"""The master: carries out what the supervision machine decides, and tells it what happened."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import assert_never

from soniqd.backends.factory import create_backend
from soniqd.control import link
from soniqd.errors import SoniqError
from soniqd.log import catalogue, emit
from soniqd.log.notify import Notifier
from soniqd.model import WorkerId
from soniqd.policy.connections import MASTER_POOL
from soniqd.policy.service import ServiceFacts
from soniqd.policy.supervision import Supervision
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision import events as ev
from soniqd.policy.supervision.roster import Roster
from soniqd.settings import dump_settings
from soniqd.settings.daemon import DaemonSettings
from soniqd.supervisor.budget import Budget
from soniqd.supervisor.child import ChildProcess
from soniqd.supervisor.driver import Driver
from soniqd.supervisor.explaining import explained
from soniqd.supervisor.generation import Generation
from soniqd.supervisor.hearing import Hearing
from soniqd.supervisor.interpreter import StartedServer
from soniqd.supervisor.ledger import Ledger, LedgerTimes
from soniqd.supervisor.measuring import Measuring
from soniqd.supervisor.plan import make_plan
from soniqd.supervisor.postmortem import Postmortems
from soniqd.supervisor.reaper import Reaper
from soniqd.supervisor.reloading import Rehearsal, ReloadResult, Reloads
from soniqd.supervisor.restarting import Restarts
from soniqd.supervisor.ring import Ring
from soniqd.supervisor.service import Service, service_facts
from soniqd.supervisor.tap import Tap
from soniqd.supervisor.waker import Waker
from soniqd.supervisor.workforce import Workforce
from soniqd.version import __version__

_WAKE = link.Wake()
_LAST_RELEASES_S = 3.0


class Master:
    """One daemon. :meth:`run` lasts as long as it does and returns its exit code."""

    def __init__(
        self,
        settings: DaemonSettings,
        config: Path | None,
        *,
        notifier: Notifier,
        facts: Roster | None = None,
        early: StartedServer | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._early = early
        self.started_at, self.started_s = time.time(), time.monotonic()
        self.upgrades = 0
        self.upgrading = False
        self.soft_nofile: int | None = None
        self.processes: dict[str, ChildProcess] = {}
        self.generations: dict[int, Generation] = {}
        self.retiring: set[asyncio.Task[None]] = set()
        self.reaper = Reaper(self._loop)
        self.postmortems = Postmortems()
        self.tap = Tap(self._loop, children=self.processes.values)
        self.ring = Ring(self._loop, on_entry=self.tap.offer)
        self.service = Service(notifier, facts=self._service_facts, after_upgrade=facts is not None)
        self.supervision = Supervision(
            make_plan(settings), new_id=lambda: str(uuid.uuid4()), random=random.random, facts=facts
        )
        self._driver = Driver(self.supervision, loop=self._loop, carry_out=self._carry_out, on_turn=self.service.look)
        self.reloads = Reloads(settings, config, tell=self.tell, on_change=self.service.look)
        self.restarts = Restarts(self.tell)
        self._measuring = Measuring(self.processes, watches_memory=self.supervision.watches_memory, tell=self.tell)
        self._take_up_duties(settings)
        self.hearing = Hearing(
            self.processes,
            self.generations,
            supervision=self.supervision,
            reloads=self.reloads,
            postmortems=self.postmortems,
            waker=self.waker,
            tell=self.tell,
            forget=self._forget,
            retired=self._await_end,
        )

    def _take_up_duties(self, settings: DaemonSettings) -> None:
        """Make what the database is needed for; nothing is connected yet."""
        database = settings.database
        self.backend = create_backend(
            database.url,
            pool_min_size=1,
            pool_max_size=MASTER_POOL,
            connect_timeout_s=database.connect_timeout,
            statement_timeout_s=database.statement_timeout,
        )
        workforce = Workforce(lambda: self.supervision.roster, self.processes)
        self.ledger = Ledger(
            self.backend,
            LedgerTimes.of(settings),
            living=workforce.living,
            on_disowned=self._disowned,
            ended=workforce.ended,
        )
        self.waker = Waker(self.backend, workforce, wake=self._wake)
        self.budget = Budget(
            self.backend, database.max_connections, plan=lambda: self.supervision.roster.plan, tell=self.tell
        )

    async def run(self) -> int:
        """Supervise until told to stop."""
        self.budget.start()
        if self.supervision.phase == "booting":
            emit(catalogue.DAEMON_STARTED, version=__version__, pid=os.getpid(), location=self.backend.location)
            self._driver.begin()
        else:  # another image of this process has begun
            self.tell(ev.Elapsed())
        self.ledger.start()
        self.waker.start()
        self._measuring.start()
        ticks = asyncio.create_task(self._read_ticks())
        try:
            exit_code = await self._driver.finished
        finally:
            self.service.look()
            ticks.cancel()
            await self._shut_down()
        emit(catalogue.DAEMON_STOPPED, exit_code=exit_code)
        return exit_code

    # what people ask for

    def stop(self, reason: str, *, now: bool = False) -> None:
        """Drain and leave; a second signal, or ``now``, leaves without letting jobs finish."""
        if self.supervision.phase == "leaving":
            return
        now = now or self.supervision.phase == "stopping"
        if now:
            emit(catalogue.DAEMON_STOPPING_NOW, reason=reason)
        else:
            timeout_s = max((group.drain_timeout_s for group in self.supervision.roster.plan), default=0.0)
            emit(catalogue.DAEMON_STOPPING, reason=reason, timeout_s=timeout_s)
        self.tell(ev.Stop(now=now))

    async def reload(self, reason: str, *, everything: bool = False) -> ReloadResult:
        """Read the configuration again and replace what that affects; raises nothing, the result tells."""
        return await self.reloads.begin(reason, self.supervision.roster, self.budget, everything=everything)

    async def rehearse(self, *, everything: bool = False) -> Rehearsal:
        """Find out what a reload would do now."""
        return await self.reloads.rehearse(self.supervision.roster, self.budget, self.reaper, everything=everything)

    def set_paused(self, group: str | None, *, paused: bool) -> list[str]:
        """Stop or resume claiming in a group, or in all; returns the groups concerned."""
        groups = [g.name for g in self.supervision.roster.plan if g.role == "worker" and group in (None, g.name)]
        if groups:
            emit(catalogue.PAUSED if paused else catalogue.RESUMED, groups=", ".join(groups))
            self.tell(ev.Pause(group) if paused else ev.Resume(group))
        return groups

    # events in, effects out

    def tell(self, event: ev.Event) -> None:
        """Hand an event to the machine and carry its effects out. Events that effects cause wait for their turn."""
        self._driver.tell(event)

    def _carry_out(self, effect: fx.Effect) -> None:  # noqa: C901, PLR0912  one arm an effect
        match effect:
            case fx.Boot():
                self._boot(effect.generation)
            case fx.Retire():
                self._retire(effect.generation)
            case fx.Fork():
                self._fork(effect)
            case fx.Drain():
                self._send(effect.worker_id, link.Drain(effect.timeout_s))
            case fx.SetPaused():
                self._send(effect.worker_id, link.Pause() if effect.paused else link.Resume())
            case fx.Kill():
                self._kill(effect)
            case fx.Forget():
                self._forget(effect.worker_id)
            case fx.Release():
                self._release(effect)
            case fx.ReloadEnded():
                self._reload_ended(effect)
            case fx.RestartEnded():
                self.restarts.ended(replace(effect, error=self._explained(effect.error)))
            case fx.Report():
                emit(effect.event, **effect.fields)
            case fx.Finish():
                self._driver.finish(effect.exit_code)
            case _:
                assert_never(effect)

    def _boot(self, number: int) -> None:
        settings = self.reloads.settings_of(number)
        python = settings.jobs.python
        early, self._early = self._early, None
        generation = Generation(
            number,
            python=None if python is None else str(python),
            settings=dump_settings(settings),
            loop=self._loop,
            reaper=self.reaper,
            events=self.hearing,
            soft_nofile=self.soft_nofile,
            early=early,
        )
        self.generations[number] = generation
        generation.boot()

    def _retire(self, number: int) -> None:
        generation = self.generations.pop(number, None)
        if generation is not None:
            generation.retire()
            self._await_end(generation)

    def _await_end(self, generation: Generation) -> None:
        ending = self._loop.create_task(generation.gone())
        self.retiring.add(ending)
        ending.add_done_callback(self.retiring.discard)

    def _fork(self, effect: fx.Fork) -> None:
        try:
            child = ChildProcess(effect.spec, self._loop, self.reaper, tap_fd=self.tap.far.fileno())
        except OSError as error:  # no descriptors, no memory: the other effects must still be carried out
            self.tell(ev.ForkFailed(effect.spec.worker_id, error.strerror or str(error)))
            return
        self.processes[effect.spec.worker_id] = child
        self.tap.welcome(child)
        self.generations[effect.spec.generation].fork(child)

    def _send(self, worker_id: str, message: link.Message) -> None:
        child = self.processes.get(worker_id)
        if child is not None:
            child.send(message)

    def _kill(self, effect: fx.Kill) -> None:
        child = self.processes.get(effect.worker_id)
        if child is not None and effect.signal == "ABRT":
            self.postmortems.abort(child)
        elif child is not None:
            child.signal(signal.Signals[f"SIG{effect.signal}"], group=effect.group)

    def _forget(self, worker_id: str) -> None:
        child = self.processes.pop(worker_id, None)
        if child is None:
            return
        generation = self.generations.get(child.spec.generation)
        if generation is not None:
            generation.forget(child)
        child.close()

    def _release(self, effect: fx.Release) -> None:
        self.ledger.release(self.postmortems.release(effect))

    # at regular times, and after a reload

    async def _read_ticks(self) -> None:
        while True:
            await asyncio.sleep(self.service.tick_interval_s)
            self.postmortems.memory_kills.sample()
            ticks = {worker_id: child.tick for worker_id, child in self.processes.items() if child.pid is not None}
            try:
                self.tell(ev.Ticks(ticks))
            except Exception as error:  # noqa: BLE001  whatever it is, the watchdog must not end with it
                emit(catalogue.DUTY_FAILED, exc_info=error, duty="watch for hung children", error=str(error))
            else:
                self.service.look(proof=True)

    def _reload_ended(self, effect: fx.ReloadEnded) -> None:
        self.reloads.ended(replace(effect, error=self._explained(effect.error)))
        self.ledger.times = LedgerTimes.of(self.reloads.settings)
        self.budget.settle(self.reloads.settings)

    def _explained(self, reason: str | None) -> str | None:
        return None if reason is None else explained(reason, database_error=self.ledger.error)

    # what the duties towards the database tell

    def _wake(self, worker_id: str) -> None:
        self._send(worker_id, _WAKE)

    def _disowned(self, worker_id: WorkerId) -> None:
        self.tell(ev.Disowned(worker_id))

    # leaving

    def _service_facts(self) -> ServiceFacts:
        return service_facts(
            self.supervision,
            self.reloads,
            self.processes.values(),
            database_up=self.ledger.up,
            upgrading=self.upgrading,
        )

    async def _shut_down(self) -> None:
        self._driver.close()
        await self.ledger.finish(_LAST_RELEASES_S)
        await self.waker.close()
        await self.budget.close()
        await self._measuring.close()
        await self.reloads.close()
        for child in list(self.processes.values()):
            child.close()
        for number in list(self.generations):
            self._retire(number)
        await asyncio.gather(*self.retiring)
        try:
            await self.backend.close()
        except SoniqError as error:
            emit(catalogue.DUTY_FAILED, duty="close the database", error=str(error))
        self.reaper.reap()
        self.reaper.close()
        self.tap.close()
