"""A wake-up for one waiting task."""

from __future__ import annotations

import asyncio


class Bell:
    """Like asyncio.Event for one waiter, with a timeout that costs no task. Ringing twice before a wait counts once."""

    __slots__ = ("_rung", "_waiter")

    def __init__(self) -> None:
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Let the waiter go on, or the next wait return at once."""
        self._rung = True
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def hush(self) -> None:
        """Forget a ring that was not waited for."""
        self._rung = False

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for a ring and use it up; False after ``timeout_s``."""
        if not self._rung and (timeout_s is None or timeout_s > 0):
            await self._sleep(timeout_s)
        rung = self._rung
        self._rung = False
        return rung

    async def _sleep(self, timeout_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = None if timeout_s is None else loop.call_later(timeout_s, _expire, waiter)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
