"""The pulse of a child's event loop, in memory that the master shares and watches."""

from __future__ import annotations

import asyncio
import math
import time

from soniqd.control.memory import ChildMemory
from soniqd.worker.copies import Original

TICK_INTERVAL_S = 0.5


class Tick:
    """Ticks about twice a second for as long as the loop goes round."""

    def __init__(self, memory: ChildMemory, loop: asyncio.AbstractEventLoop) -> None:
        self._memory = memory
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = math.inf
        self._original = Original()

    def start(self) -> None:
        """Tick now and from now on. A copy of this process, which would tick in its place, ends here."""
        self._original.insist()
        self._memory.tick()
        self._due_s = time.monotonic() + TICK_INTERVAL_S
        self._timer = self._loop.call_later(TICK_INTERVAL_S, self.start)

    def stop(self) -> None:
        """Tick no more."""
        self._due_s = math.inf
        if self._timer is not None:
            self._timer.cancel()

    def late_s(self, now_s: float) -> float:
        """Return for how long a tick has been overdue: the loop has been kept that long. Any thread may ask."""
        return max(0.0, now_s - self._due_s)
