"""One worker: registers, claims, runs, writes, drains."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from itertools import islice

from soniqd.backends import StorageBackend
from soniqd.control.link import State
from soniqd.log import catalogue, emit
from soniqd.model import WorkerId, WorkerRecord
from soniqd.queue.hooks import Hooks
from soniqd.queue.metrics import MetricsSink
from soniqd.queue.registry import TaskRegistry
from soniqd.queue.retry_policy import RetryPolicy
from soniqd.worker.bell import Bell
from soniqd.worker.board import Board, InFlight
from soniqd.worker.options import WorkerOptions
from soniqd.worker.parts import Materials, Parts

_NAMED_IN_STATE = 10


class Worker:
    """Runs the jobs of one process. Its methods belong to the loop that runs it.

    ``on_ready`` is called once it is registered and about to claim; ``on_change`` when ``state()`` may differ, for
    every job; ``on_more`` when a wake-up met more jobs than one claim may take, so that another worker should look too.
    ``until_empty`` makes it drain by itself once no job is left that could run now.
    """

    def __init__(
        self,
        *,
        backend: StorageBackend,
        tasks: TaskRegistry,
        hooks: Hooks,
        record: WorkerRecord,
        options: WorkerOptions,
        metrics_sink: MetricsSink | None = None,
        retry_policy: RetryPolicy | None = None,
        until_empty: bool = False,
        board: Board | None = None,
    ) -> None:
        self.on_change: Callable[[], None] | None = None
        self.on_ready: Callable[[], None] | None = None
        self.on_more: Callable[[], None] | None = None
        self._options = options
        self._bell = Bell()
        self._ready = self._paused = self._swept = False
        self._drain_at: float | None = None
        self._unfinished = self._left_behind = 0
        materials = Materials(
            backend, tasks, hooks, record, options, metrics_sink, retry_policy, until_empty=until_empty, board=board
        )
        parts = Parts(materials, on_change=self._tell_change, on_more=self._tell_more)
        self._parts = parts
        self._registration, self._reports, self._outage = parts.registration, parts.reports, parts.outage
        self._claimer, self._executor, self._completer = parts.claimer, parts.executor, parts.completer

    @property
    def id(self) -> WorkerId:
        """The current incarnation."""
        return self._registration.record.id

    @property
    def record(self) -> WorkerRecord:
        """What the current incarnation registered as."""
        return self._registration.record

    @property
    def options(self) -> WorkerOptions:
        return self._options

    @property
    def is_draining(self) -> bool:
        return self._drain_at is not None

    @property
    def is_swept(self) -> bool:
        """The database has declared this incarnation dead."""
        return self._swept

    @property
    def unfinished(self) -> int:
        """Jobs that the drain cut short."""
        return self._unfinished

    @property
    def left_behind(self) -> int:
        """Jobs still held whose code goes on until the process ends: whoever supervises it gives them back then."""
        return self._left_behind

    async def run(self) -> None:
        """Work until drained; raises SchemaError if the database has no tables to work with.

        Cancelling it gives back what runs, without waiting for it.
        """
        try:
            await self._register()
            if not self._ready:
                return
            await self._work()
        finally:
            self._parts.close()

    def wake(self, *, due_in_s: float | None = None) -> None:
        """Look for jobs now; with ``due_in_s``, once that time has come."""
        self._claimer.wake(due_in_s=due_in_s)

    def pause(self) -> None:
        """Claim nothing more; what runs goes on, what has not started goes back."""
        if not self._paused:
            self._set_paused(paused=True)

    def resume(self) -> None:
        """Claim again."""
        if self._paused:
            self._set_paused(paused=False)

    def drain(self, timeout_s: float) -> None:
        """Let ``run`` come to its end within about ``timeout_s``; a later call can only shorten it."""
        at = time.monotonic() + timeout_s
        if self._drain_at is not None and at >= self._drain_at:
            return
        self._drain_at = at
        self._claimer.stop()
        self._executor.set_open(is_open=False)
        self._executor.poke()
        self._bell.ring()
        self._tell_change()

    def swept(self, successor: WorkerRecord | None = None) -> None:
        """Accept that the database holds this incarnation for dead, and its jobs belong to others.

        What has not started is forgotten. What runs goes on: its writes will be refused, and to cut it short in the
        middle would make nothing better. With a ``successor`` the worker registers as that and goes on; without one
        it drains without a deadline (a later ``drain`` sets one), and its surroundings replace it.
        """
        self._executor.forget_waiting()
        self._claimer.set_paused(paused=True)
        if successor is None:
            self._swept = True
            self.drain(math.inf)
        else:
            emit(catalogue.WORKER_RENEWED, worker_id=self._registration.record.id, successor_id=successor.id)
            self._registration.record = successor
            self._ready = False
        self._bell.ring()
        self._tell_change()

    def in_flight(self) -> tuple[InFlight, ...]:
        """Return the jobs that have a slot, oldest first. Any thread may ask."""
        runs = self._executor.running()
        return tuple(InFlight(run.job.fence.job_id, run.job.name, run.handle, run.slot) for run in runs)

    def jobs_of_threads(self) -> dict[int, str]:
        """Tell which threads run handlers, and of which jobs. Any thread may ask."""
        return self._parts.threads.jobs()

    def state(self) -> State:
        """Return what it is doing now."""
        phase, running = self._phase(), tuple(islice(self._executor.running(), _NAMED_IN_STATE))
        return State(
            phase=phase,
            in_flight=self._executor.in_flight,
            free=self._claimer.free if phase == "running" else 0,
            done=self._reports.done,
            failed=self._reports.failed,
            running=tuple(run.job.name for run in running),
            looked_s=self._claimer.looked_at,
            oldest_id=running[0].job.fence.job_id if running else None,
        )

    def _phase(self) -> str:
        if self.is_draining:
            return "draining"
        if self._outage.is_on:
            return "waiting_for_database"
        if not self._ready:
            return "starting"
        return "paused" if self._paused else "running"

    def _set_paused(self, *, paused: bool) -> None:
        if self.is_draining:
            return
        self._paused = paused
        self._executor.set_open(is_open=not paused)
        self._claimer.set_paused(paused=paused)
        self._registration.set_paused(paused=paused)
        self._bell.ring()  # for the changed record to be registered
        self._tell_change()

    async def _register(self) -> None:
        if await self._registration.register(gives_up=lambda: self.is_draining):
            self._claimer.worker_id = self._registration.record.id
            self._ready = True
            self._tell_change()

    async def _work(self) -> None:
        writing = asyncio.create_task(self._completer.run(), name="soniqd-completer")
        claiming = asyncio.create_task(self._claimer.run(), name="soniqd-claimer")
        try:
            for task in (writing, claiming):
                task.add_done_callback(lambda _: self._bell.ring())
            if self.on_ready is not None:
                self.on_ready()
            try:
                await self._until_drain(writing, claiming)
            except BaseException:
                self.drain(0)
                await self._finish(claiming)
                raise
            await self._finish(claiming)
        finally:
            for task in (writing, claiming):
                task.cancel()
            await asyncio.gather(writing, claiming, return_exceptions=True)
            await self._reports.close()

    async def _until_drain(self, writing: asyncio.Task[None], claiming: asyncio.Task[None]) -> None:
        """Return when a drain is asked for; raise what a part of the worker failed with, which is a defect in it."""
        while not self.is_draining:
            await self._bell.wait()
            for task in (writing, claiming):
                if task.done() and (error := task.exception()) is not None:
                    raise error
            if claiming.done() and not self.is_draining:  # a drain stops the claimer, too, and has its own deadline
                self.drain(0)
            elif not self._registration.is_current:
                await self._register()
                self._claimer.set_paused(paused=self._paused)

    async def _finish(self, claiming: asyncio.Task[None]) -> None:
        """Carry the drain out: wait, cut short, give back, write, mark as stopped."""
        if self._executor.in_flight:
            await self._registration.mark_stopping(min(self._options.cancel_grace_s, self._left_s()))
        await self._executor.wait_ended(self._left_s)
        if self._executor.in_flight:
            self._unfinished = self._executor.in_flight
            self._executor.interrupt()
            end = time.monotonic() + self._options.cancel_grace_s
            await self._executor.wait_ended(lambda: end - time.monotonic(), threads_too=False)
            self._left_behind = self._executor.abandon(give_back=not self._registration.record.supervised)
        await asyncio.wait([claiming], timeout=self._options.cancel_grace_s)
        claiming.cancel()
        written = await self._completer.wait_empty(self._options.write_grace_s)
        if not written:
            emit(catalogue.OUTCOMES_UNWRITTEN, count=self._completer.backlog, worker_id=self._registration.record.id)
        if self._left_behind:
            await self._registration.mark_stopping(self._options.cancel_grace_s)
        else:
            await self._registration.mark_stopped(self._options.write_grace_s if written else 0.0)
        self._tell_change()

    def _left_s(self) -> float:
        assert self._drain_at is not None
        return self._drain_at - time.monotonic()

    def _tell_change(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def _tell_more(self) -> None:
        if self.on_more is not None:
            self.on_more()
