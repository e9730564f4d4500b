"""Deadlines of running jobs on one timer.

``asyncio.timeout`` arms and disarms a timer of the event loop for each job; at tens of thousands of short jobs a
second that is a tenth of the work. Here a job costs one dictionary entry, and the timer moves only for an earlier
deadline than the one it stands at. A timer that fires for jobs gone since finds the next one.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_EARLY_S = 0.002  # uvloop counts in milliseconds and may fire by one too soon


class Deadlines(Generic[T]):
    """Calls ``expired(key)`` once its time has come. One deadline a key; a later one takes its place."""

    def __init__(self, expired: Callable[[T], None]) -> None:
        self._expired = expired
        self._at: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._armed_at = math.inf
        self._loop: asyncio.AbstractEventLoop | None = None

    def set(self, key: T, timeout_s: float) -> None:
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        at = self._at[key] = loop.time() + timeout_s
        if at < self._armed_at:
            self._arm(loop, at)

    def clear(self, key: T) -> None:
        self._at.pop(key, None)

    def close(self) -> None:
        self._at.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._armed_at = math.inf

    def _arm(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(at, self._fire)
        self._armed_at = at

    def _fire(self) -> None:
        self._timer = None
        self._armed_at = math.inf
        assert self._loop is not None
        now = self._loop.time() + _EARLY_S
        for key in [key for key, at in self._at.items() if at <= now]:
            del self._at[key]
            self._expired(key)
        # What expired may have set a new deadline, and the timer with it, behind those that are left.
        if self._at and (next_at := min(self._at.values())) < self._armed_at:
            self._arm(self._loop, next_at)
