"""The heartbeat of an unsupervised worker, from a thread of its own.

A handler that keeps the event loop busy must not make its worker look dead, so the thread has its own event loop and
its own connection. Where there is no second connection to be had (memory), the heartbeat runs on the worker's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable

from soniqd.backends import StorageBackend
from soniqd.errors import DatabaseError
from soniqd.log import catalogue, emit
from soniqd.log.redact import redact
from soniqd.model import WorkerId
from soniqd.policy.sweep import BeatRecord

_CLOSE_S = 10.0


class Heartbeat:
    """Beats for one incarnation at a time; ``on_lost`` is called, on the worker's loop, when it was swept.

    After a process was stopped and continued, or the database was away, the next beat finds out.
    """

    def __init__(
        self,
        *,
        worker_id: WorkerId,
        interval_s: float,
        connect: Callable[[], StorageBackend] | None,
        shared: StorageBackend,
        on_lost: Callable[[WorkerId], None],
    ) -> None:
        self._worker_id = worker_id
        self._interval_s = interval_s
        self._connect = connect
        self._shared = shared
        self._on_lost = on_lost
        self.beats = BeatRecord(interval_s)
        """Whether this worker's beats have been regular, so that it may judge others by theirs."""
        self._home = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = self._home.create_future()
        """Raises what ended the heartbeat though nobody closed it: a defect, or a configuration that cannot work."""
        self._task: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._stopped = False

    def start(self) -> None:
        if self._connect is None:
            self._task = asyncio.create_task(self._beat_for_ever(self._shared), name="soniqd-heartbeat")
            self._task.add_done_callback(lambda task: None if task.cancelled() else self._fail(task.exception()))
        else:
            self._thread = threading.Thread(target=self._run, name="soniqd-heartbeat", daemon=True)
            self._thread.start()

    def renew(self, worker_id: WorkerId) -> None:
        """Beat for the next incarnation."""
        self._worker_id = worker_id

    async def close(self) -> None:
        """Stop, within reason: a connection that hangs does not keep the process."""
        self._stopped = True
        self.failed.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._thread is not None:
            self._ring()
            await asyncio.to_thread(self._thread.join, _CLOSE_S)

    def _ring(self) -> None:
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # closed in between: the thread is on its way out
                loop.call_soon_threadsafe(stop.set)

    def _run(self) -> None:
        try:
            asyncio.run(self._beat_alone())
        except Exception as error:  # noqa: BLE001  a thread has nobody above it to raise to
            with contextlib.suppress(RuntimeError):  # the worker's loop may be closed by now
                self._home.call_soon_threadsafe(self._fail, error)

    def _fail(self, error: BaseException | None) -> None:
        if error is not None and not self.failed.done():
            self.failed.set_exception(error)

    async def _beat_alone(self) -> None:
        assert self._connect is not None
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._stopped:
            return
        backend = self._connect()
        beating = asyncio.create_task(self._beat_for_ever(backend))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({beating, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            beating.cancel()
            stopping.cancel()
            [ended, _] = await asyncio.gather(beating, stopping, return_exceptions=True)
            await backend.close()
        if isinstance(ended, Exception):
            raise ended

    async def _beat_for_ever(self, backend: StorageBackend) -> None:
        failing = False
        while True:
            try:
                await self._beat(backend)
                self.beats.beat(time.clock_gettime(time.CLOCK_BOOTTIME))
                failing = False
            except DatabaseError as error:
                self.beats.missed()
                if not failing:
                    emit(
                        catalogue.WORKER_DUTY_FAILED,
                        worker_id=self._worker_id,
                        duty="write its heartbeat",
                        error=redact(str(error)),
                    )
                failing = True
            await asyncio.sleep(min(self._interval_s, 1.0) if failing else self._interval_s)

    async def _beat(self, backend: StorageBackend) -> None:
        worker_id = self._worker_id
        await backend.open()
        if worker_id in await backend.heartbeat([worker_id]) or worker_id != self._worker_id or self._stopped:
            return
        self._home.call_soon_threadsafe(self._on_lost, worker_id)
