"""The pulse of a child's event loop, in memory that the master shares and watches."""

from __future__ import annotations

import asyncio
import mmap
import struct

TICK_BYTES = 8
TICK_INTERVAL_S = 0.5

_COUNTER = struct.Struct("<Q")


class Tick:
    """Adds one to the counter in ``fd`` about twice a second for as long as the loop goes round."""

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop) -> None:
        self._memory = mmap.mmap(fd, TICK_BYTES)
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._count = 0

    def start(self) -> None:
        """Tick now and from now on."""
        self._count += 1
        _COUNTER.pack_into(self._memory, 0, self._count)
        self._timer = self._loop.call_later(TICK_INTERVAL_S, self.start)

    def stop(self) -> None:
        """Tick no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._memory.close()
