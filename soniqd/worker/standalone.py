"""The surroundings of a worker that no master supervises: ``soniqctl worker`` and ``Soniq.run_worker``.

What the master does for its children is done here for one worker: heartbeats (from a thread, see heartbeat.py),
wake-ups, the sweep of lost workers, pruning, vacuum, and signals. SIGTERM and SIGINT drain; a second one drains at
once. A worker that was swept though it lives, because it was stopped or cut off for too long, goes on as a new
incarnation.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from typing import Any

from soniqd.backends import StorageBackend, WakeUps
from soniqd.backends.vacuuming import Vacuuming
from soniqd.errors import DatabaseError
from soniqd.log import catalogue, emit
from soniqd.log.redact import redact
from soniqd.model import WorkerId
from soniqd.policy.pruning import PRUNE_BATCH, next_prune_s
from soniqd.policy.vacuuming import LOOK_EVERY_S
from soniqd.worker.heartbeat import Heartbeat
from soniqd.worker.worker import Worker

_LISTEN_AGAIN_S = 2.0


@dataclass(frozen=True, slots=True)
class StandaloneOptions:
    """``connect`` makes a second, unopened backend for the heartbeat thread; None: it beats on the worker's loop."""

    heartbeat_interval_s: float = 5.0
    heartbeat_timeout_s: float = 300.0
    sweep_interval_s: float = 60.0
    drain_timeout_s: float = 30.0
    connect: Callable[[], StorageBackend] | None = None


async def run_standalone(
    worker: Worker,
    backend: StorageBackend,
    *,
    options: StandaloneOptions | None = None,
    stop: asyncio.Event | None = None,
    handle_signals: bool = False,
) -> None:
    """Run a worker until it has drained: after ``stop`` is set, a signal, or (``until_empty``) when all is done.

    The caller opens and closes ``backend``. Everything else that is opened here is closed on return.
    """
    surroundings = _Surroundings(worker, backend, options or StandaloneOptions())
    with _signals(surroundings.on_signal, enabled=handle_signals):
        tasks = [asyncio.create_task(duty) for duty in surroundings.duties(stop)]
        working = asyncio.create_task(worker.run(), name="soniqd-worker")
        try:
            waiting = {working, *tasks}
            while not working.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if any(task.exception() for task in done):
                    worker.drain(0)  # a duty failed with what nobody expected, which is raised below
            await working
        finally:
            for task in (working, *tasks):
                task.cancel()
            results = await asyncio.gather(*tasks, working, return_exceptions=True)
            await surroundings.close()
    for result in results:
        if isinstance(result, Exception):
            raise result


class _Surroundings:
    def __init__(self, worker: Worker, backend: StorageBackend, options: StandaloneOptions) -> None:
        self._worker = worker
        self._backend = backend
        self._options = options
        self._ready = asyncio.Event()
        self._heartbeat: Heartbeat | None = None
        self._tell_ready, worker.on_ready = worker.on_ready, self._on_ready

    def duties(self, stop: asyncio.Event | None) -> list[Coroutine[Any, Any, None]]:
        duties = [self._listen(), self._sweep(), self._vacuum(), self._watch_heartbeat()]
        if stop is not None:
            duties.append(self._obey(stop))
        return duties

    def on_signal(self) -> None:
        """Drain; the second time, at once."""
        self._worker.drain(0 if self._worker.is_draining else self._options.drain_timeout_s)

    async def close(self) -> None:
        if self._heartbeat is not None:
            await self._heartbeat.close()

    def _on_ready(self) -> None:
        self._heartbeat = Heartbeat(
            worker_id=self._worker.id,
            interval_s=self._options.heartbeat_interval_s,
            connect=self._options.connect,
            shared=self._backend,
            on_lost=self._on_lost,
        )
        self._heartbeat.start()
        self._ready.set()
        if self._tell_ready is not None:
            self._tell_ready()

    def _on_lost(self, worker_id: WorkerId) -> None:
        """Go on as a new incarnation."""
        if worker_id != self._worker.id or self._worker.is_draining:
            return
        successor = replace(self._worker.record, id=WorkerId(str(uuid.uuid4())))
        self._worker.swept(successor)
        if self._heartbeat is not None:
            self._heartbeat.renew(successor.id)

    async def _obey(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._worker.drain(self._options.drain_timeout_s)

    async def _watch_heartbeat(self) -> None:
        await self._ready.wait()
        assert self._heartbeat is not None
        await self._heartbeat.failed

    async def _listen(self) -> None:
        """Pass wake-ups on; polling goes on behind them."""
        await self._ready.wait()
        while True:
            with _tolerated(self._worker, "listen for new jobs"):
                wake_ups = await self._backend.subscribe()
                try:
                    await self._pass_on(wake_ups)
                finally:
                    await wake_ups.close()
            await asyncio.sleep(_LISTEN_AGAIN_S)

    async def _pass_on(self, wake_ups: WakeUps) -> None:
        mine = frozenset(self._worker.options.queues)
        self._worker.wake()  # for what was stored before the subscription
        while True:
            for wake_up in await wake_ups.wait():
                if wake_up.due_in_s is not None:
                    self._worker.wake(due_in_s=wake_up.due_in_s)
                elif not mine or wake_up.queue is None or wake_up.queue in mine:
                    self._worker.wake()

    async def _sweep(self) -> None:
        """Release lost workers' jobs and delete old rows, at each interval, once the own heartbeat is steady."""
        await self._ready.wait()
        interval_s = self._options.sweep_interval_s
        await asyncio.sleep(min(1.0, interval_s) * random.random())  # noqa: S311  keeps a fleet apart
        while True:
            assert self._heartbeat is not None
            wait_s = self._heartbeat.beats.steady_in_s(time.clock_gettime(time.CLOCK_BOOTTIME))
            if wait_s > 0 and self._backend.capabilities.multi_process:
                await asyncio.sleep(wait_s)
                continue
            with _tolerated(self._worker, "sweep"):
                if self._backend.capabilities.multi_process:
                    await self._sweep_once()
                await self._prune(interval_s)
            await asyncio.sleep(interval_s * (0.9 + random.random() / 5))  # noqa: S311  keeps a fleet apart

    async def _prune(self, for_s: float) -> None:
        """Delete what nobody needs, batch by batch, for no longer than it is to the next sweep."""
        end_s = time.monotonic() + for_s
        rest_s: float | None = 0.0
        while rest_s is not None and (began_s := time.monotonic()) < end_s:
            report = await self._backend.prune(limit=PRUNE_BATCH)
            rest_s = next_prune_s(report.history, report.workers, report.ticks, took_s=time.monotonic() - began_s)
            await asyncio.sleep(rest_s or 0.0)

    async def _vacuum(self) -> None:
        """Remove dead rows where many jobs end."""
        await self._ready.wait()
        vacuuming = Vacuuming(self._backend, ended=self._jobs_ended)
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            with _tolerated(self._worker, "look at dead rows"):
                if vacuuming.wants_look:
                    await vacuuming.look()

    def _jobs_ended(self) -> int:
        state = self._worker.state()
        return state.done + state.failed

    async def _sweep_once(self) -> None:
        report = await self._backend.sweep(
            heartbeat_timeout_s=self._options.heartbeat_timeout_s, max_crashes=self._worker.options.max_crashes
        )
        if report.workers:
            emit(
                catalogue.WORKERS_SWEPT,
                workers=len(report.workers),
                requeued=len(report.released.requeued),
                dead_lettered=len(report.released.dead_lettered),
            )


@contextlib.contextmanager
def _tolerated(worker: Worker, duty: str) -> Iterator[None]:
    """Log what the database refuses: the duty is tried again later."""
    try:
        yield
    except DatabaseError as error:
        emit(catalogue.WORKER_DUTY_FAILED, worker_id=worker.id, duty=duty, error=redact(str(error)))


@contextlib.contextmanager
def _signals(on_signal: Callable[[], None], *, enabled: bool) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    caught = (signal.SIGTERM, signal.SIGINT) if enabled else ()
    for number in caught:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
