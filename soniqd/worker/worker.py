"""One worker: registers, claims, runs, writes, drains."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import islice

from soniqd.backends import StorageBackend
from soniqd.control.link import State
from soniqd.errors import DatabaseError, SchemaError
from soniqd.log import catalogue, emit
from soniqd.model import TaskDefaults, WorkerId, WorkerRecord, WorkerStatus
from soniqd.queue.hooks import Hooks
from soniqd.queue.metrics import GuardedMetrics, MetricsSink, NullMetricsSink
from soniqd.queue.registry import TaskRegistry
from soniqd.queue.retry_policy import RetryPolicy, TaskRetryPolicy
from soniqd.worker.bell import Bell
from soniqd.worker.board import Board, InFlight, NoBoard
from soniqd.worker.claimer import Claimer
from soniqd.worker.completer import Completer, Entry
from soniqd.worker.executor import Executor
from soniqd.worker.options import WorkerOptions
from soniqd.worker.outage import Outage
from soniqd.worker.reports import Reports
from soniqd.worker.run import Pipeline
from soniqd.worker.threads import HandlerThreads

_NAMED_IN_STATE = 10
_CHANGE_S = 0.05  # on_change is called at most so often, for the first change and for the last


class Worker:
    """Runs the jobs of one process. Its methods belong to the loop that runs it.

    ``on_ready`` is called once it is registered and about to claim; ``on_change`` when ``state()`` may differ;
    ``on_more`` when a wake-up met more jobs than one claim may take, so that another worker should look too.
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
        self._backend = backend
        self._tasks = tasks
        self._record = record
        self._options = options
        self._bell = Bell()
        self._ready = False
        self._registered: WorkerRecord | None = None
        self._paused = False
        self._swept = False
        self._drain_at: float | None = None
        self._change_timer: asyncio.TimerHandle | None = None
        self._changed_since = False
        self._unfinished = 0
        self._left_behind = 0
        self._metrics = GuardedMetrics(metrics_sink or NullMetricsSink())
        self._reports = Reports(self._metrics)
        self._outage = Outage(worker_id=record.id, on_change=self._changed, longest_s=options.error_retry_s)
        self._threads = HandlerThreads(options.sync_threads)
        self._pipeline = Pipeline(
            hooks=hooks,
            metrics=self._metrics,
            retry_policy=retry_policy or TaskRetryPolicy(),
            threads=self._threads,
            hook_timeout_s=options.hook_timeout_s,
            snooze_max_s=options.snooze_max_s,
        )
        self._completer = Completer(
            backend=backend,
            outage=self._outage,
            options=options,
            on_written=self._written,
            on_room=self._room,
        )
        self._executor = Executor(
            tasks=tasks,
            pipeline=self._pipeline,
            options=options,
            submit=self._completer.add,
            board=board or NoBoard(),
            unwritten=lambda: self._completer.backlog,
            on_room=lambda: self._claimer.room(),  # noqa: PLW0108  the claimer is made after the executor
            on_change=self._changed,
        )
        self._claimer = Claimer(
            backend=backend,
            worker_id=record.id,
            tasks=tasks,
            options=options,
            executor=self._executor,
            completer=self._completer,
            outage=self._outage,
            supervised=record.supervised,
            until_empty=until_empty,
            on_more=self._tell_more,
            on_looked=self._changed,
        )

    @property
    def id(self) -> WorkerId:
        """The current incarnation."""
        return self._record.id

    @property
    def record(self) -> WorkerRecord:
        """What the current incarnation registered as."""
        return self._record

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
            self._pipeline.close()
            self._threads.close()
            if self._change_timer is not None:
                self._change_timer.cancel()
                self._change_timer = None

    def wake(self, *, due_in_s: float | None = None) -> None:
        """Look for jobs now; with ``due_in_s``, once that time has come."""
        self._claimer.wake(due_in_s=due_in_s)

    def pause(self) -> None:
        """Claim nothing more; what runs goes on, what has not started goes back."""
        if self._paused or self.is_draining:
            return
        self._paused = True
        self._claimer.set_paused(paused=True)
        self._executor.set_open(is_open=False)
        self._register_paused()
        self._changed()

    def resume(self) -> None:
        """Claim again."""
        if not self._paused or self.is_draining:
            return
        self._paused = False
        self._executor.set_open(is_open=True)
        self._claimer.set_paused(paused=False)
        self._register_paused()
        self._changed()

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
        self._changed()

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
            emit(catalogue.WORKER_RENEWED, worker_id=self._record.id, successor_id=successor.id)
            self._record = successor
            self._ready = False
        self._bell.ring()
        self._changed()

    def in_flight(self) -> tuple[InFlight, ...]:
        """Return the jobs that have a slot, oldest first. Any thread may ask."""
        runs = self._executor.running()
        return tuple(InFlight(run.job.fence.job_id, run.job.name, run.handle, run.slot) for run in runs)

    def jobs_of_threads(self) -> dict[int, str]:
        """Tell which threads run handlers, and of which jobs. Any thread may ask."""
        return self._threads.jobs()

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

    def _register_paused(self) -> None:
        """Let everybody who asks why a job waits know of it; the loop registers the changed record."""
        metadata = {**self._record.metadata, "paused": self._paused}
        self._record = replace(self._record, metadata=metadata)
        self._bell.ring()

    async def _register(self) -> None:
        """Register, for as long as that takes."""
        while not self.is_draining:
            record = self._record
            try:
                await self._backend.register_worker(record, names=self._tasks.names(), defaults=self._defaults())
            except SchemaError:
                raise
            except DatabaseError as error:
                self._outage.lost(error)
                await self._outage.pause()
                continue
            self._outage.back()
            if record is not self._record:
                continue  # swept while it registered
            self._claimer.worker_id = record.id
            self._registered = record
            self._ready = True
            self._changed()
            return

    def _defaults(self) -> dict[str, TaskDefaults]:
        """Say how the tasks are declared, for those who know no more than a name."""
        return {
            task.name: TaskDefaults(
                queue=task.queue,
                priority=task.priority,
                max_attempts=task.max_retries + 1,
                timeout_s=self._options.job_timeout_s if task.timeout_s is None else task.timeout_s,
                unique=task.unique,
            )
            for task in self._tasks
        }

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
            elif self._registered is not self._record:
                await self._register()
                self._claimer.set_paused(paused=self._paused)

    async def _finish(self, claiming: asyncio.Task[None]) -> None:
        """Carry the drain out: wait, cut short, give back, write, mark as stopped."""
        if self._executor.in_flight:
            await self._mark_stopping(min(self._options.cancel_grace_s, self._left_s()))
        await self._executor.wait_ended(self._left_s)
        if self._executor.in_flight:
            self._unfinished = self._executor.in_flight
            self._executor.interrupt()
            end = time.monotonic() + self._options.cancel_grace_s
            await self._executor.wait_ended(lambda: end - time.monotonic(), threads_too=False)
            self._left_behind = self._executor.abandon(give_back=not self._record.supervised)
        await asyncio.wait([claiming], timeout=self._options.cancel_grace_s)
        claiming.cancel()
        written = await self._completer.wait_empty(self._options.write_grace_s)
        if not written:
            emit(catalogue.OUTCOMES_UNWRITTEN, count=self._completer.backlog, worker_id=self._record.id)
        if self._left_behind:
            await self._mark_stopping(self._options.cancel_grace_s)
        else:
            await self._mark_stopped(self._options.write_grace_s if written else 0.0)
        self._changed()

    def _left_s(self) -> float:
        assert self._drain_at is not None
        return self._drain_at - time.monotonic()

    async def _mark_stopping(self, timeout_s: float) -> None:
        """Show the drain to others; it goes on without that."""
        if timeout_s <= 0 or self._outage.is_on:
            return
        with contextlib.suppress(DatabaseError, TimeoutError):
            await _within(timeout_s, self._backend.set_worker_status([self._record.id], WorkerStatus.STOPPING))

    async def _mark_stopped(self, timeout_s: float) -> None:
        """Deregister; jobs that are still held, for whatever reason, go back in the same transaction."""
        end = time.monotonic() + timeout_s
        while (left_s := end - time.monotonic()) > 0:
            try:
                await _within(
                    left_s,
                    self._backend.release_workers(
                        [self._record.id], cause="interrupted", max_crashes=self._options.max_crashes
                    ),
                )
            except (DatabaseError, TimeoutError) as error:
                self._outage.lost(error)
                await self._outage.pause()
            else:
                return

    def _room(self) -> None:
        self._executor.start_suspect()
        self._claimer.room()

    def _tell_more(self) -> None:
        if self.on_more is not None:
            self.on_more()

    def _written(self, entries: Sequence[Entry]) -> None:
        due_in_s = self._reports.written(entries)
        if due_in_s is not None:
            self._claimer.wake(due_in_s=due_in_s)
            if due_in_s <= 0:
                self._claimer.wake()
        self._changed()

    def _changed(self) -> None:
        """Tell about changes at once, and then about all that follow within a moment together."""
        if self.on_change is None:
            return
        if self._change_timer is None:
            self._change_timer = asyncio.get_running_loop().call_later(_CHANGE_S, self._change_settled)
            self.on_change()
        else:
            self._changed_since = True

    def _change_settled(self) -> None:
        self._change_timer = None
        if self._changed_since:
            self._changed_since = False
            self._changed()


async def _within(timeout_s: float, call: Awaitable[object]) -> None:
    async with asyncio.timeout(timeout_s):
        await call
