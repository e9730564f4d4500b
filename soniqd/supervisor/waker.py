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
from typing import Protocol

from soniqd.backends import StorageBackend, WakeUp, WakeUps
from soniqd.errors import SoniqError
from soniqd.log import catalogue, emit
from soniqd.log.redact import redact
from soniqd.policy.waking import Sleeper, Woken, keeps_turn, next_turn

_RETRY_S = 1.0
_LOOK_AHEAD_S = 30.0
"""How long the due timer sleeps at most: a job for later whose announcement was lost is found by then."""
_REMEMBERED = 16
"""Of so many workers that are gone it may be remembered when they were woken."""
_MOST_TURNS = 1000
"""Of so many queues it is remembered whose turn it is."""


class Crew(Protocol):
    """The workers of this host, as far as waking them goes."""

    def sleepers(self) -> list[Sleeper]:
        """List those that may be woken."""

    def sleeper(self, worker_id: str) -> Sleeper | None:
        """Return one of those."""


class Waker:
    """``wake`` tells a worker of the crew to claim."""

    def __init__(self, backend: StorageBackend, crew: Crew, *, wake: Callable[[str], None]) -> None:
        self._backend = backend
        self._crew = crew
        self._wake = wake
        self._woken: dict[str, Woken] = {}
        self._turns: dict[str, str] = {}
        """Who was woken last, by queue."""
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
        everybody = self._crew.sleepers()
        queues = next((sleeper.queues for sleeper in everybody if sleeper.worker_id == worker_id), ())
        others = [sleeper for sleeper in everybody if sleeper.worker_id != worker_id]
        if self._wake_among([sleeper for sleeper in others if sleeper.covers(queues)], None) is not None:
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
        """Wake the worker whose turn it is, without a look at the others, or else the next one."""
        if self._wake_again(queue):
            return
        sleepers = self._crew.sleepers()
        if (worker_id := self._wake_among(sleepers, queue)) is None:
            return
        if len(self._turns) >= _MOST_TURNS:
            self._turns.clear()
        self._turns[queue] = worker_id
        if len(self._woken) > 2 * len(sleepers) + _REMEMBERED:
            self._woken = {s.worker_id: self._woken[s.worker_id] for s in sleepers if s.worker_id in self._woken}

    def _wake_again(self, queue: str) -> bool:
        worker_id = self._turns.get(queue)
        if worker_id is None or (before := self._woken.get(worker_id)) is None:
            return False
        sleeper = self._crew.sleeper(worker_id)
        if sleeper is None or not sleeper.takes(queue):
            return False
        now_s = time.monotonic()
        if not keeps_turn(sleeper, before, now_s=now_s):
            return False
        self._woken[worker_id] = Woken(now_s, before.turn_s, sleeper.begun, sleeper.looks)
        self._wake(worker_id)
        return True

    def _wake_one_of_each(self) -> None:
        """Wake a worker for each set of queues that workers serve: any of them may have work."""
        sleepers = self._crew.sleepers()
        for queues in dict.fromkeys(sleeper.queues for sleeper in sleepers):
            self._wake_among([sleeper for sleeper in sleepers if sleeper.queues == queues], None)

    def _wake_among(self, sleepers: list[Sleeper], queue: str | None) -> str | None:
        """Wake whoever's turn is next, if anybody's; return who that is."""
        now_s = time.monotonic()
        chosen = next_turn(sleepers, queue, self._woken, now_s=now_s)
        if chosen is None:
            return None
        self._woken[chosen.worker_id] = Woken(now_s, now_s, chosen.begun, chosen.looks)
        self._wake(chosen.worker_id)
        return chosen.worker_id

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
