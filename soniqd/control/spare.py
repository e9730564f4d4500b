"""A descriptor in reserve, so that a process which has none left can still answer who asks it why."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from soniqd.control.shortage import is_of_descriptors


class SpareDescriptor:
    """Held until it is needed; one client at a time can have its place."""

    def __init__(self) -> None:
        self._fd: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether it is here; if not, a client has its place, or there was none to be had."""
        return self._fd is not None

    def take_up(self) -> None:
        """Hold one (again), if there is one to be had."""
        if self._fd is None:
            with suppress(OSError):
                self._fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Give it up."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def accept(self, listener: socket.socket) -> socket.socket:
        """Accept a client, in the place of the spare one if there is no other; raises OSError, BlockingIOError."""
        try:
            return listener.accept()[0]
        except OSError as error:
            if self._fd is None or not is_of_descriptors(error):
                raise
        self.close()
        try:
            return listener.accept()[0]
        except OSError:
            self.take_up()
            raise
