"""The pulse of a child's event loop, in memory that the master shares and watches."""

from __future__ import annotations

import asyncio

from soniqd.control.memory import ChildMemory

TICK_INTERVAL_S = 0.5


class Tick:
    """Ticks about twice a second for as long as the loop goes round."""

    def __init__(self, memory: ChildMemory, loop: asyncio.AbstractEventLoop) -> None:
        self._memory = memory
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Tick now and from now on."""
        self._memory.tick()
        self._timer = self._loop.call_later(TICK_INTERVAL_S, self.start)

    def stop(self) -> None:
        """Tick no more."""
        if self._timer is not None:
            self._timer.cancel()
