"""Waking workers of this host when there is something to claim, without waking all of them for one job.

The master holds the host's one subscription. A wake-up for a queue goes to one idle worker that serves it; a woken
worker whose claim came back full says so (``More``), and the next idle one is woken: so as many wake as there is work
for. Jobs stored for later are promoted by the master when the earliest of them is due. Workers also look by themselves
at their poll interval, so that a lost wake-up costs time and nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from soniqd.backends import StorageBackend, WakeUp, WakeUps
from soniqd.errors import SoniqError
from soniqd.log import catalogue, emit
from soniqd.log.redact import redact

_RETRY_S = 1.0
_LOOK_AHEAD_S = 30.0
"""How long the due timer sleeps at most: a job for later whose announcement was lost is found by then."""


@dataclass(frozen=True, slots=True)
class Sleeper:
    """A worker that could claim now. Empty ``queues`` serve all."""

    worker_id: str
    queues: tuple[str, ...]
    free: int
    in_flight: int


def choose_sleeper(sleepers: Iterable[Sleeper], queue: str | None, recently_woken: dict[str, float]) -> str | None:
    """Choose whom to wake: serves the queue, has room, is the least busy, and was woken the longest ago."""
    fitting = [s for s in sleepers if s.free > 0 and (queue is None or not s.queues or queue in s.queues)]
    if not fitting:
        return None
    best = min(fitting, key=lambda s: (s.in_flight, recently_woken.get(s.worker_id, 0.0)))
    return best.worker_id


class Waker:
    """``sleepers`` tells who could claim; ``wake`` tells one of them to."""

    def __init__(
        self, backend: StorageBackend, *, sleepers: Callable[[], list[Sleeper]], wake: Callable[[str], None]
    ) -> None:
        self._backend = backend
        self._sleepers = sleepers
        self._wake = wake
        self._woken: dict[str, float] = {}
        self._due_s: float | None = 0.0
        self._due_changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._wake_ups: WakeUps | None = None

    def start(self) -> None:
        """Begin to listen and to watch the clock; also again, after both were stopped."""
        self._due_s = 0.0
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._promote())]

    async def close(self) -> None:
        """Stop both."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._wake_ups is not None:
            await self._wake_ups.close()

    def more(self, worker_id: str) -> None:
        """A worker's claim came back full: wake another one."""
        self._wake_one(None, but=worker_id)

    def announce(self, wake_up: WakeUp) -> None:
        """Act on one wake-up."""
        if wake_up.due_in_s is not None:
            self._expect_due(time.monotonic() + wake_up.due_in_s)
        elif wake_up.queue is None:
            self._expect_due(time.monotonic())
            self._wake_one(None)
        else:
            self._wake_one(wake_up.queue)

    def _wake_one(self, queue: str | None, *, but: str | None = None) -> None:
        sleepers = [sleeper for sleeper in self._sleepers() if sleeper.worker_id != but]
        chosen = choose_sleeper(sleepers, queue, self._woken)
        if chosen is not None:
            self._woken = {s.worker_id: self._woken.get(s.worker_id, 0.0) for s in sleepers}
            self._woken[chosen] = time.monotonic()
            self._wake(chosen)

    def _expect_due(self, due_s: float) -> None:
        if self._due_s is None or due_s < self._due_s:
            self._due_s = due_s
            self._due_changed.set()

    async def _listen(self) -> None:
        while True:
            try:
                await self._backend.open()
                self._wake_ups = await self._backend.subscribe()
                while True:
                    for wake_up in await self._wake_ups.wait():
                        self.announce(wake_up)
            except Exception as error:  # noqa: BLE001  the ear must outlive whatever it hears
                _report_unless_told(error, "listen for jobs")
                await asyncio.sleep(_RETRY_S)

    async def _promote(self) -> None:
        while True:
            pause_s = _LOOK_AHEAD_S if self._due_s is None else self._due_s - time.monotonic()
            self._due_changed.clear()
            if pause_s > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(pause_s, _LOOK_AHEAD_S)):
                        await self._due_changed.wait()
                        continue
            self._due_s = None  # what is announced from here on counts
            try:
                await self._backend.open()
                report = await self._backend.promote_due()
            except Exception as error:  # noqa: BLE001  the timer must outlive whatever it meets
                _report_unless_told(error, "promote jobs that are due")
                await asyncio.sleep(_RETRY_S)
                self._expect_due(time.monotonic())
                continue
            if report.next_due_s is not None:
                self._expect_due(time.monotonic() + report.next_due_s)


def _report_unless_told(error: Exception, duty: str) -> None:
    """The ledger meets the same trouble with the database, and tells of it; anything else is a defect."""
    if not isinstance(error, SoniqError):
        emit(catalogue.DUTY_FAILED, exc_info=error, duty=duty, error=redact(f"{type(error).__name__}: {error}"))
