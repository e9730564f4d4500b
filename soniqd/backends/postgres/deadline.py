"""Our own deadline of statements, for servers that do not answer any more.

The server's ``statement_timeout`` comes first and says more; this one is for a server that hangs or a network that
swallows everything. It shuts the connection's socket, so that whoever waits on it sees the end of the stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from soniqd.backends.postgres.connection import AnyConnection


class Deadlines:
    """Watches statements under way with one timer, whatever their number; ``limit_s`` 0 watches nothing."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._due: dict[AnyConnection, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def watched(self, connection: AnyConnection) -> Iterator[None]:
        self.watch(connection)
        try:
            yield
        finally:
            self.forget(connection)

    def watch(self, connection: AnyConnection) -> None:
        if self._limit_s <= 0:
            return
        loop = asyncio.get_running_loop()
        self._due[connection] = loop.time() + self._limit_s
        if self._timer is None:
            self._timer = loop.call_later(self._limit_s, self._look)

    def forget(self, connection: AnyConnection) -> None:
        self._due.pop(connection, None)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in [one for one, due in self._due.items() if due <= now]:
            self.forget(connection)
            shut(connection)
        self._timer = loop.call_at(min(self._due.values()), self._look) if self._due else None


def shut(connection: AnyConnection) -> None:
    """End a connection's socket from outside."""
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.pgconn.socket)) as end:
        end.shutdown(socket.SHUT_RDWR)
