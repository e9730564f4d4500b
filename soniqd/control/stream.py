"""An answer in many parts: what happens, told to one client as it happens.

Whoever has something to tell offers it and goes on. A client that takes too little misses items, never more than that:
what waits for it is bounded, by number and by size, and what it missed is counted and told at that place.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

Item = dict[str, Any]

MOST_ITEMS = 1000
MOST_BYTES = 2 * 1024 * 1024
_BATCH_ITEMS = 200
_BATCH_BYTES = 128 * 1024


class Stream:
    """Items for one client, from the loop that serves it.

    ``lost`` words how many were dropped, as an item. ``on_close`` is called once, when nobody listens any more.
    """

    def __init__(
        self,
        *,
        lost: Callable[[int], Item],
        on_close: Callable[[Stream], None] | None = None,
        most_items: int = MOST_ITEMS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._word_lost = lost
        self._on_close = on_close
        self._most_items = most_items
        self._most_bytes = most_bytes
        self._waiting: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._lost = 0
        self._ended = False
        self._changed = asyncio.Event()

    def offer(self, item: Item, size: int) -> None:
        """Queue an item of about so many bytes, or count it as lost."""
        if self._ended:
            return
        if len(self._waiting) >= self._most_items or self._bytes + size > self._most_bytes:
            self._lost += 1
            return
        if self._lost:
            self._append(self._lost_item(), 0)
        self._append(item, size)

    def end(self) -> None:
        """Let the answer end after what waits."""
        self._ended = True
        self._changed.set()

    def close(self) -> None:
        """Drop what waits: nobody takes it any more."""
        self.end()
        self._waiting.clear()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(self)

    async def take(self) -> tuple[Item, ...]:
        """Wait for items and take some; none is the end."""
        while not self._waiting and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        taken: list[Item] = []
        size = 0
        while self._waiting and len(taken) < _BATCH_ITEMS and size < _BATCH_BYTES:
            item, item_size = self._waiting.popleft()
            taken.append(item)
            size += item_size
        self._bytes -= size
        if self._lost and not self._waiting:
            taken.append(self._lost_item())
        return tuple(taken)

    def _lost_item(self) -> Item:
        lost, self._lost = self._lost, 0
        return self._word_lost(lost)

    def _append(self, item: Item, size: int) -> None:
        self._waiting.append((item, size))
        self._bytes += size
        self._changed.set()
