"""Copying this child's log for whoever follows it, when the master says so."""

from __future__ import annotations

import asyncio
import socket

from soniqd.control.link import Follow
from soniqd.log.mirror import Mirror

_TELL_INTERVAL_S = 0.5


class Mirroring:
    """A mirror that the master turns on and off. While it is on, lost lines are told though nothing else is logged."""

    def __init__(self, tap_fd: int, loop: asyncio.AbstractEventLoop, *, slot: str) -> None:
        self._mirror = Mirror(socket.socket(fileno=tap_fd), slot=slot)
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def obey(self, message: Follow) -> None:
        """Begin to copy, copy something else, or end."""
        self.stop()
        if message.level is not None:
            self._mirror.follow(message.level, jobs=message.jobs)
            self._timer = self._loop.call_later(_TELL_INTERVAL_S, self._tell_lost)

    def stop(self) -> None:
        """Copy nothing more."""
        self._mirror.stop()
        if self._timer is not None:
            self._timer.cancel()

    def _tell_lost(self) -> None:
        self._mirror.tell_lost()
        self._timer = self._loop.call_later(_TELL_INTERVAL_S, self._tell_lost)
