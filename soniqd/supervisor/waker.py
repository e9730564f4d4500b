"""Waking workers of this host when there is something to claim, without waking all of them for one job.

The master holds the host's one subscription. A wake-up for a queue goes to one idle worker that serves it (which one:
:mod:`soniqd.policy.waking`); a woken worker whose claim came back full says so (``More``), and the next idle one that
serves its queues is woken: so as many wake as there is work for. Jobs stored for later are promoted by the master when
the earliest of them is due. Workers also look by themselves at their poll interval, so that a lost wake-up costs time
and nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from soniqd.backends import StorageBackend, WakeUp, WakeUps
from soniqd.errors import SoniqError
from soniqd.log import catalogue, emit
from soniqd.log.redact import redact
from soniqd.policy.waking import Looks, Sleeper, Woken, choose_sleeper

_RETRY_S = 1.0
_LOOK_AHEAD_S = 30.0
"""How long the due timer sleeps at most: a job for later whose announcement was lost is found by then."""
_REMEMBERED = 16
"""Of so many workers that are gone it may be remembered when they were woken."""


class Waker:
    """``sleepers`` tells who could claim, ``looks`` how often one at rest has; ``wake`` tells one of them to."""

    def __init__(
        self,
        backend: StorageBackend,
        *,
        sleepers: Callable[[], list[Sleeper]],
        looks: Looks,
        wake: Callable[[str], None],
    ) -> None:
        self._backend = backend
        self._sleepers = sleepers
        self._looks = looks
        self._wake = wake
        self._woken: dict[str, Woken] = {}
        self._due_s: float | None = 0.0
        self._due_changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._wake_ups: WakeUps | None = None

    @property
    def hears(self) -> bool | None:
        """Whether the database's wake-ups arrive; None before the first attempt to listen."""
        return None if self._wake_ups is None else self._wake_ups.live

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
        """A worker's claim came back full: wake another one for all of its queues, or else one for each."""
        everybody = self._sleepers()
        queues = next((sleeper.queues for sleeper in everybody if sleeper.worker_id == worker_id), ())
        others = [sleeper for sleeper in everybody if sleeper.worker_id != worker_id]
        if self._wake_among([sleeper for sleeper in others if sleeper.covers(queues)], None):
            return
        for queue in queues or (None,):
            self._wake_among(others, queue)

    def announce(self, wake_up: WakeUp) -> None:
        """Act on one wake-up."""
        if wake_up.queue is not None:
            self._wake_one(wake_up.queue)
        elif wake_up.due_in_s is not None:
            self._expect_due(time.monotonic() + wake_up.due_in_s)
        else:
            self._expect_due(time.monotonic())
            self._wake_one_of_each()

    def _wake_one(self, queue: str) -> None:
        sleepers = self._sleepers()
        self._wake_among(sleepers, queue)
        if len(self._woken) > 2 * len(sleepers) + _REMEMBERED:
            self._woken = {s.worker_id: self._woken[s.worker_id] for s in sleepers if s.worker_id in self._woken}

    def _wake_one_of_each(self) -> None:
        """Wake a worker for each set of queues that workers serve: any of them may have work."""
        sleepers = self._sleepers()
        for queues in dict.fromkeys(sleeper.queues for sleeper in sleepers):
            self._wake_among([sleeper for sleeper in sleepers if sleeper.queues == queues], None)

    def _wake_among(self, sleepers: list[Sleeper], queue: str | None) -> bool:
        chosen = choose_sleeper(sleepers, queue, self._woken, looks=self._looks, now_s=time.monotonic())
        if chosen is None:
            return False
        worker_id, self._woken[worker_id] = chosen
        self._wake(worker_id)
        return True

    def _expect_due(self, due_s: float) -> None:
        if self._due_s is None or due_s < self._due_s:
            self._due_s = due_s
            self._due_changed.set()

    async def _listen(self) -> None:
        while True:
            try:
                await self._backend.open()
                self._wake_ups = await self._backend.subscribe()
                self._wake_ups.hand_to(self._hear)
                while True:
                    for wake_up in await self._wake_ups.wait():
                        self._hear(wake_up)
            except Exception as error:  # noqa: BLE001  the ear must outlive whatever it hears
                _report_unless_told(error, "listen for jobs")
                await asyncio.sleep(_RETRY_S)

    def _hear(self, wake_up: WakeUp) -> None:
        try:
            self.announce(wake_up)
        except Exception as error:  # noqa: BLE001  see above
            _report_unless_told(error, "wake a worker")

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
