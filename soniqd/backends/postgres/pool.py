"""Connections to lend.

Not psycopg_pool: that one connects in background tasks, so while the database is down its callers wait for a timeout
without hearing why, and after it is back they wait for the next retry; and it knows a dead connection only by a round
trip. Here the caller's own task connects, gets the reason if that fails, and dead connections are seen on their socket.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import psycopg
from psycopg.pq import ConnStatus, TransactionStatus

from soniqd.backends.postgres.connection import Connection
from soniqd.errors import ClosedError, DatabaseUnavailableError

_IDLE_FOR_S = 10.0
"""How long a connection beyond the minimum may lie idle."""

_FRESH_FOR_S = 0.01
"""For how long a connection that just worked is trusted unseen: looking takes longer than that is likely to matter."""


class ConnectionPool:
    """At most ``max_size`` connections; the one used last is lent first, so that those not needed age and go."""

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], *, min_size: int, max_size: int, timeout_s: float
    ) -> None:
        self._connect = connect
        self._min_size = min(min_size, max_size)
        self._max_size = max_size
        self._timeout_s = timeout_s
        self._idle: deque[tuple[float, Connection]] = deque()
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._size = 0
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    async def fill(self) -> None:
        """Connect up to the minimum (one at least), so that what is wrong is known now."""
        async with AsyncExitStack() as stack:
            for _ in range(max(1, self._min_size) - self._size):
                await stack.enter_async_context(self.lent())

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[Connection]:
        connection = await self.borrow()
        try:
            yield connection
        finally:
            await self.give_back(connection)

    async def borrow(self) -> Connection:
        """Return a working connection; raises psycopg's error of the attempt to connect."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            if self._closed:
                raise ClosedError("cannot use the database: the backend was closed")
            while self._idle:
                idle_since, connection = self._idle.pop()
                if time.monotonic() - idle_since < _FRESH_FOR_S or is_usable(connection):
                    return connection
                await self._discard(connection)
            if self._size < self._max_size:
                return await self._grow()
            handed_over = await self._wait_for_one(deadline)
            if handed_over is not None:
                return handed_over

    async def give_back(self, connection: Connection) -> None:
        """Take a connection back; one that is broken or in the middle of something is closed."""
        status = connection.pgconn.transaction_status
        if self._closed or connection.closed or status != TransactionStatus.IDLE:
            await self._discard(connection)
        elif not self._hand_over(connection):
            self._idle.append((time.monotonic(), connection))
            await self._discard_oldest()

    async def close(self) -> None:
        """Close what is idle; what is lent is closed when it comes back."""
        self._closed = True
        while self._idle:
            await self._discard(self._idle.pop()[1])
        while self._hand_over(None):
            pass

    async def _grow(self) -> Connection:
        self._size += 1
        try:
            return await self._connect()
        except BaseException:
            self._size -= 1
            self._hand_over(None)
            raise

    async def _wait_for_one(self, deadline: float) -> Connection | None:
        """Wait in line; None: look again, there may be room for a new connection."""
        future: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await asyncio.shield(future)
        except BaseException as error:
            await self._leave_line(future)
            if isinstance(error, TimeoutError):
                raise DatabaseUnavailableError(
                    f"cannot get a connection: all {self._max_size} of the pool were in use for {self._timeout_s:g} s"
                ) from None
            raise

    async def _leave_line(self, future: asyncio.Future[Connection | None]) -> None:
        """Pass on what was handed over in the moment of giving up."""
        if not future.done():
            future.cancel()
            self._waiting.remove(future)
        elif (connection := future.result()) is not None:
            await self.give_back(connection)
        else:
            self._hand_over(None)

    def _hand_over(self, connection: Connection | None) -> bool:
        """Give a connection, or the chance to open one, to who has waited longest."""
        if not self._waiting:
            return False
        self._waiting.popleft().set_result(connection)
        return True

    async def _discard(self, connection: Connection) -> None:
        """Close first: whoever may open another one then does not lift the server's count above the most."""
        try:
            await connection.close()
        finally:
            self._size -= 1
            self._hand_over(None)

    async def _discard_oldest(self) -> None:
        if self._size > self._min_size and self._idle[0][0] < time.monotonic() - _IDLE_FOR_S:
            await self._discard(self._idle.popleft()[1])


def is_usable(connection: Connection) -> bool:
    """Tell whether an idle connection still stands, by what lies in its socket: nothing, or the server's goodbye."""
    pgconn = connection.pgconn
    if pgconn.status != ConnStatus.OK:
        return False
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    if not poll.poll(0):
        return True
    try:
        pgconn.consume_input()
    except psycopg.Error:
        return False
    return pgconn.status == ConnStatus.OK and not poll.poll(0)
