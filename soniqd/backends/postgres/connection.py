"""A connection whose reader can stay on the event loop from one statement to the next.

psycopg registers a reader for each wait and removes it again, which is a dozen system calls with uvloop: more than
sending a claim and reading its answer. Whoever waits by :meth:`Connection.arrival` leaves the reader where it is; it
goes when psycopg waits by itself, when something comes that nobody has asked for (the server's goodbye, say), and
before the descriptor is closed, since the next file may get its number. What it has not heard proves nothing: an
event loop that was kept busy has not looked.

asyncio's own loop calls it a second time before the answer was taken, and then it goes: there nothing is gained, and
nothing lost.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen, Transformer
from psycopg.pq import ConnStatus
from psycopg.pq.abc import PGconn
from psycopg.rows import TupleRow

AnyConnection = psycopg.AsyncConnection[Any]
"""Also one of a caller's."""

_RV = TypeVar("_RV")
_CTRL_C_EVERY_S = 0.1


class Connection(psycopg.AsyncConnection[TupleRow]):
    """To be opened by ``connect``; one event loop for all of its life."""

    def __init__(self, pgconn: PGconn) -> None:
        super().__init__(pgconn)
        self.direct: dict[bytes, Transformer | None] = {}
        """Direct statements that it has met: with what reads their rows, or None where psycopg has to run them."""
        self._reader: tuple[asyncio.AbstractEventLoop, int] | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def arrival(self, *, again: bool = False) -> None:
        """Wait until something has arrived, and have libpq take it in; raises what libpq says.

        ``again``: for more of the same answer, with a new reader. One of a socket that has failed (a server that is
        gone resets it) is called no more than once by uvloop, and the failure may come behind a last word.
        """
        if again:
            self._stop_reading()
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        if self._reader is None:
            descriptor = self.pgconn.socket
            loop.add_reader(descriptor, self._arrived)
            self._reader = loop, descriptor
        try:
            await waiter
        finally:
            self._waiter = None
        try:
            self.pgconn.consume_input()
        finally:
            if self.pgconn.status != ConnStatus.OK:  # libpq has closed the socket
                self._stop_reading()

    async def wait(
        self,
        gen: PQGen[_RV],
        interval: float = _CTRL_C_EVERY_S,
        timeout: float | None = None,  # noqa: ASYNC109  psycopg's signature
    ) -> _RV:
        """Let psycopg wait, with a reader of its own.

        Whoever is cancelled hears of that and of nothing else. psycopg 3.2 waits for the end of what it has cancelled,
        and raises what goes wrong by then in its place: a statement would be repeated for a caller who has gone.
        """
        self._stop_reading()
        task = asyncio.current_task()
        cancellations = task.cancelling() if task else 0
        try:
            if timeout is None:  # which psycopg's older releases do not know
                return await super().wait(gen, interval)
            return await super().wait(gen, interval, timeout)
        except psycopg.Error as error:
            if task and task.cancelling() > cancellations:
                raise asyncio.CancelledError from error
            raise

    async def close(self) -> None:
        """Close it; again is all right."""
        self._stop_reading()
        await super().close()

    def _arrived(self) -> None:
        if self._waiter is None or self._waiter.done():
            self._stop_reading()  # what has come lies there for whoever is next
        else:
            self._waiter.set_result(None)

    def _stop_reading(self) -> None:
        if self._reader is not None:
            loop, descriptor = self._reader
            self._reader = None
            loop.remove_reader(descriptor)
