"""A subscriber's mailbox: wake-ups of one burst, merged until somebody looks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from soniqd.backends.values import WakeUp


class WakeBox:
    """Collects wake-ups on the event loop's thread and hands them out merged.

    Nothing is lost between two calls of :meth:`wait`, and the box cannot grow: it holds each queue's name once, and
    the nearest due time.
    """

    def __init__(self) -> None:
        self._filled = asyncio.Event()
        self._anything = False
        self._queues: set[str] = set()
        self._due: float | None = None
        self._hear: Callable[[WakeUp], None] | None = None
        self._merging = False

    def hand_to(self, hear: Callable[[WakeUp], None]) -> None:
        """Call this with each wake-up from now on, instead of holding it for :meth:`wait`: the first one at once."""
        self._hear = hear

    def add(self, queue: str | None = None, *, due_in_s: float | None = None) -> None:
        """Note that a queue has work, that a job is due later, or (neither given) that anything may have changed."""
        if due_in_s is not None:
            due = asyncio.get_running_loop().time() + due_in_s
            self._due = due if self._due is None else min(self._due, due)
        elif queue is not None:
            self._queues.add(queue)
        else:
            self._anything = True
        if self._hear is None:
            self._filled.set()
        elif not self._merging:
            self._hand_over()

    def add_only(self, queue: str | None) -> None:
        """Add what is known to be the only news of this moment: with nothing to merge it with, it goes straight on."""
        if self._hear is None or self._merging:
            self.add(queue)
        else:
            self._hear(WakeUp(queue))

    @contextmanager
    def burst(self) -> Iterator[None]:
        """Merge what is added within the block."""
        merging, self._merging = self._merging, True
        try:
            yield
        finally:
            self._merging = merging
            if self._hear is not None and not merging:
                self._hand_over()

    def _hand_over(self) -> None:
        """Hand over what there is; what comes until the loop's next turn is merged then."""
        assert self._hear is not None
        wake_ups = self._take()
        if wake_ups:
            self._merging = True
            asyncio.get_running_loop().call_soon(self._go_on)
        for wake_up in wake_ups:
            self._hear(wake_up)

    def _go_on(self) -> None:
        self._merging = False
        self._hand_over()

    def interrupt(self) -> None:
        """Let a waiting caller return without a wake-up; for closing."""
        self._filled.set()

    async def wait(self, timeout_s: float | None) -> tuple[WakeUp, ...]:
        """Return what has come, or an empty tuple after ``timeout_s``."""
        if timeout_s is None:
            await self._filled.wait()
            return self._take()
        try:
            async with asyncio.timeout(timeout_s):
                await self._filled.wait()
        except TimeoutError:
            return ()
        return self._take()

    def _take(self) -> tuple[WakeUp, ...]:
        wake_ups = [WakeUp()] if self._anything else []
        wake_ups += [WakeUp(queue=queue) for queue in sorted(self._queues)]
        if self._due is not None:
            wake_ups.append(WakeUp(due_in_s=max(0.0, self._due - asyncio.get_running_loop().time())))
        self._anything = False
        self._queues.clear()
        self._due = None
        self._filled.clear()
        return tuple(wake_ups)
