"""The surroundings of a child's work: link, tick, signals, deadlines, and how it all ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Coroutine
from typing import Any, assert_never

import uvloop

from soniqd.backends import StorageBackend
from soniqd.control import link as wire
from soniqd.control.fork import ChildDescriptors
from soniqd.control.identity import identity_of
from soniqd.control.memory import ChildMemory
from soniqd.control.peer import Peer
from soniqd.errors import ConfigurationError, DatabaseError
from soniqd.log import catalogue, emit
from soniqd.log.redact import redact
from soniqd.model import WorkerId
from soniqd.model.child import ChildSpec
from soniqd.roles.graces import Graces
from soniqd.roles.guard import Guard
from soniqd.roles.jobs import LoadedJobs
from soniqd.roles.link import Link
from soniqd.roles.mirroring import Mirroring
from soniqd.roles.monitor import Monitor
from soniqd.roles.report import Reporter
from soniqd.roles.scheduler import make_scheduler
from soniqd.roles.stacks import Activity
from soniqd.roles.storage import make_backend, open_patiently, pool_size
from soniqd.roles.tick import Tick
from soniqd.roles.work import Work
from soniqd.roles.worker import make_worker
from soniqd.settings.daemon import DaemonSettings
from soniqd.worker import Worker

_EX_OK = 0
_EX_SOFTWARE = 70
_EX_TEMPFAIL = 75
_EX_CONFIG = 78

_NOW = Graces.within(2.5)
"""For leaving now, which the master gives three seconds for."""
_FLUSH_S = 4.5
"""For writing out what is buffered, with whatever locks a hung thread holds."""
_FAREWELL_S = 0.5


def preload(settings: DaemonSettings) -> None:
    """Import, before any fork, what every child would otherwise import for itself."""
    make_backend(settings.database)


def run_child(spec: ChildSpec, *, descriptors: ChildDescriptors, settings: DaemonSettings, jobs: LoadedJobs) -> int:
    """Be this child until it is done; return the process's exit code, to be given to ``os._exit``.

    The loop is left as it is: what still runs in it or in its threads ends with the process.
    """
    link = socket.socket(fileno=descriptors.link)
    memory = ChildMemory(descriptors.memory)
    guard = Guard(blackbox=descriptors.blackbox)
    guard.watch_link(link, patience_s=spec.drain_timeout_s + Graces.within(spec.stop_signal_timeout_s).end_s)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    mirroring = Mirroring(descriptors.tap, loop, slot=spec.slot)
    child = Child(
        spec,
        link=link,
        memory=memory,
        blackbox=descriptors.blackbox,
        mirroring=mirroring,
        settings=settings,
        jobs=jobs,
        guard=guard,
        loop=loop,
    )
    try:
        return loop.run_until_complete(child.run())
    finally:
        guard.end_within(_FLUSH_S)


class Child:
    """One child. Everything happens on its loop, in the order in which it was asked for."""

    def __init__(
        self,
        spec: ChildSpec,
        *,
        link: socket.socket,
        memory: ChildMemory,
        blackbox: int,
        mirroring: Mirroring,
        settings: DaemonSettings,
        jobs: LoadedJobs,
        guard: Guard,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._spec = spec
        self._settings = settings
        self._jobs = jobs
        self._guard = guard
        self._loop = loop
        self._work: Work | None = None
        self._backend: StorageBackend | None = None
        self._phase = "starting"
        self._paused = False
        self._reason = ""
        self._leave_at: float | None = None
        self._leaving = asyncio.Event()
        self._overdue = asyncio.Event()
        self._heartbeat: asyncio.Task[None] | None = None
        self._memory = memory
        self._tick = Tick(memory, loop)
        self._monitor = Monitor(
            slot=spec.slot,
            memory=memory,
            blackbox=blackbox,
            tick=self._tick,
            loop=loop,
            warning_s=spec.block_warning_s,
            observe=self._activity,
        )
        self._mirroring = mirroring
        self._master = identity_of(Peer.of(link).pid)
        self._link = Link(link, loop, on_message=self._obey, on_lost=self._orphaned)
        self._reporter = Reporter(spec, loop, observe=self._state, send=self._link.send)

    async def run(self) -> int:
        """Work until told to leave; returns the exit code."""
        self._loop.add_signal_handler(signal.SIGTERM, self._terminate)
        self._loop.add_signal_handler(signal.SIGQUIT, self._leave_now, "SIGQUIT")
        self._tick.start()
        self._monitor.start()
        self._link.start()
        self._reporter.report_now()
        try:
            code = await self._live()
        except ConfigurationError as error:
            code = _EX_CONFIG
            self._reason = self._reason or redact(str(error))
            emit(catalogue.CHILD_CANNOT_WORK, slot=self._spec.slot, error=self._reason)
        except Exception as error:  # noqa: BLE001  the process boundary: whatever it is becomes a log line and a code
            code = _EX_SOFTWARE
            self._reason = f"{type(error).__name__}: {redact(str(error))}"
            emit(catalogue.CHILD_FAILED, exc_info=error, slot=self._spec.slot, error=self._reason)
        self._say_goodbye()
        return code

    async def _live(self) -> int:
        backend = make_backend(self._settings.database, pool_max_size=pool_size(self._spec))
        opening = open_patiently(backend, slot=self._spec.slot, on_waiting=self._wait_for_database)
        if not await self._unless(self._leaving, opening) or self._leaving.is_set():
            return _EX_OK
        self._backend = backend
        self._work = self._make_work(backend)
        if self._paused:
            self._work.pause()
        if not await self._unless(self._overdue, self._work.run()):
            emit(catalogue.CHILD_OVERDUE, slot=self._spec.slot, unfinished=self._state().in_flight)
            return _EX_TEMPFAIL
        await self._unless(self._overdue, backend.close())
        return _EX_TEMPFAIL if isinstance(self._work, Worker) and self._work.left_behind else _EX_OK

    def _make_work(self, backend: StorageBackend) -> Work:
        work: Work
        match self._spec.role:
            case "worker":
                worker = make_worker(self._spec, self._settings, self._jobs, backend, self._memory, master=self._master)
                worker.on_more = self._tell_more
                work = worker
            case "scheduler":
                work = make_scheduler(self._jobs, backend)
            case _:
                assert_never(self._spec.role)
        work.on_change, work.on_ready = self._reporter.changed, self._ready
        return work

    async def _unless(self, event: asyncio.Event, steps: Coroutine[Any, Any, Any]) -> bool:
        """Run steps to their end, or until the event; return whether they ended. What they raise is raised."""
        task, signalled = asyncio.ensure_future(steps), asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({task, signalled}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            signalled.cancel()
        if not task.done():
            task.cancel()
            return False
        task.result()
        return True

    # what the master says

    def _obey(self, message: wire.Message) -> None:
        match message:
            case wire.Wake():
                if self._work is not None:
                    self._work.wake()
            case wire.Pause() | wire.Resume():
                self._set_paused(paused=isinstance(message, wire.Pause))
            case wire.Drain():
                self._drain(message.timeout_s, "drained by the master")
            case wire.Follow():
                self._mirroring.obey(message)
            case wire.Ready() | wire.State() | wire.More() | wire.Leaving():
                emit(catalogue.LINK_BROKEN, error=f"the master sent {type(message).__name__}")
            case _:
                assert_never(message)

    def _set_paused(self, *, paused: bool) -> None:
        self._paused = paused
        if self._work is not None:
            (self._work.pause if paused else self._work.resume)()
        self._reporter.report_now()

    def _orphaned(self) -> None:
        emit(catalogue.MASTER_GONE, slot=self._spec.slot, timeout_s=self._spec.drain_timeout_s)
        self._drain(self._spec.drain_timeout_s, "the master is gone")
        if self._backend is not None and self._spec.role == "worker":
            self._heartbeat = self._loop.create_task(self._keep_alive(self._backend))

    async def _keep_alive(self, backend: StorageBackend) -> None:
        """Heartbeat while nobody else does: a drain may be longer than the patience of other hosts' sweeps."""
        while True:
            try:
                await backend.heartbeat([WorkerId(self._spec.worker_id)])
            except DatabaseError as error:
                emit(catalogue.ORPHAN_HEARTBEAT_FAILED, slot=self._spec.slot, error=redact(str(error)))
            await asyncio.sleep(self._settings.sweep.heartbeat_interval)

    # leaving

    def _terminate(self) -> None:
        if self._leave_at is None:
            self._drain(self._spec.drain_timeout_s, "SIGTERM")
        else:
            self._leave_now("a second SIGTERM")

    def _leave_now(self, reason: str) -> None:
        self._drain(0.0, reason, graces=_NOW)

    def _drain(self, timeout_s: float, reason: str, *, graces: Graces | None = None) -> None:
        """Leave within ``timeout_s`` and a grace; each further call can only make it sooner."""
        graces = graces or Graces.within(self._spec.stop_signal_timeout_s)
        self._guard.end_within(timeout_s + graces.end_s)
        self._reason = self._reason or reason
        leave_at = self._loop.time() + timeout_s + graces.leave_s
        if self._leave_at is None or leave_at < self._leave_at:
            self._leave_at = leave_at
            self._loop.call_at(leave_at, self._overdue.set)
        self._leaving.set()
        if self._work is not None:
            self._work.drain(timeout_s)
        self._reporter.report_now()

    def _say_goodbye(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        state = self._state()
        unfinished = state.in_flight + (self._work.unfinished if isinstance(self._work, Worker) else 0)
        self._reporter.stop()
        self._monitor.stop()
        self._tick.stop()
        self._link.send(state)
        self._link.send(wire.Leaving(self._reason or "done", unfinished))
        self._link.close(patience_s=_FAREWELL_S)

    # what it is doing

    def _wait_for_database(self) -> None:
        self._phase = "waiting_for_database"
        self._reporter.changed()

    def _tell_more(self) -> None:
        self._link.send(wire.More())

    def _ready(self) -> None:
        self._link.send(wire.Ready(os.getpid()))
        self._reporter.report_now()

    def _activity(self) -> Activity:
        work = self._work
        return Activity(work.in_flight(), work.jobs_of_threads()) if isinstance(work, Worker) else Activity()

    def _state(self) -> wire.State:
        return wire.State(phase=self._phase) if self._work is None else self._work.state()
