"""A subscriber's mailbox: wake-ups of one burst, merged until somebody looks."""

from __future__ import annotations

import asyncio

from soniqd.backends.protocol import WakeUp


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

    def add(self, queue: str | None = None, *, due_in_s: float | None = None) -> None:
        """Note that a queue has work, that a job is due later, or (neither given) that anything may have changed."""
        if due_in_s is not None:
            due = asyncio.get_running_loop().time() + due_in_s
            self._due = due if self._due is None else min(self._due, due)
        elif queue is not None:
            self._queues.add(queue)
        else:
            self._anything = True
        self._filled.set()

    def interrupt(self) -> None:
        """Let a waiting caller return without a wake-up; for closing."""
        self._filled.set()

    async def wait(self, timeout_s: float | None) -> tuple[WakeUp, ...]:
        """Return what has come, or an empty tuple after ``timeout_s``."""
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
