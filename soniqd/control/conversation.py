"""One client of the control socket: what it asks, and what it is told.

So that at any moment each byte received is either the kernel's or in a :class:`Conversation`, sockets are waited for
and then read in one step; ``loop.sock_recv`` would keep bytes in a future for a turn of the loop.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from soniqd.control.codec import LineBuffer, decode_request, encode_items, encode_response
from soniqd.control.message import Failed, Items, Request, Response, Succeeded
from soniqd.control.stream import Stream
from soniqd.errors import ControlError

_RECEIVE_SIZE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all of them together, may take."""

    clients: int = 32
    streams: int = 16
    request_timeout_s: float = 10.0
    response_timeout_s: float = 10.0
    stream_timeout_s: float = 30.0
    close_timeout_s: float = 1.0


class Conversation:
    """A client; ``request`` is what is being answered, ``stream`` what it follows.

    All of it raises OSError if the client is gone, and TimeoutError if it is too slow.
    """

    def __init__(self, connection: socket.socket, limits: Limits, *, received: bytes = b"") -> None:
        self.connection = connection
        self.request: Request | None = None
        self.stream: Stream | None = None
        self._limits = limits
        self._lines = LineBuffer()
        self._lines.feed(received)

    @property
    def received(self) -> bytes:
        """The beginning of a request that is not complete yet."""
        return self._lines.rest

    async def receive(self) -> Request | None:
        """Wait for a request; None if the client says no more. Raises ControlError for what is none."""
        async with asyncio.timeout(self._limits.request_timeout_s):
            while (line := self._lines.next_line()) is None:
                await readable(self.connection)
                with suppress(BlockingIOError):
                    data = self.connection.recv(_RECEIVE_SIZE)
                    if not data:
                        return None
                    self._lines.feed(data)
        return decode_request(line)

    async def send(self, response: Response) -> None:
        """Tell the client how a request ended."""
        await self._put(encode_response(response), self._limits.response_timeout_s)

    async def follow(self, number: int, stream: Stream) -> Response:
        """Send what a stream has until it, or the client, has had enough; return the end of the answer."""
        self.stream = stream
        # Before the first word to the client: what it says from then on, and its end, are not missed.
        leaving = asyncio.create_task(readable(self.connection), name="control: follower")
        leaving.add_done_callback(lambda _: stream.end())
        try:
            items: tuple[dict[str, Any], ...] = ()
            while True:
                await self._put(encode_items(Items(number, items)), self._limits.stream_timeout_s)
                items = () if leaving.done() else await stream.take()
                if not items:
                    return Succeeded(number, {})
        except ControlError as error:
            return Failed(number, error.code, str(error))
        finally:
            self.stream = None
            stream.close()
            leaving.cancel()
            await asyncio.wait({leaving})  # it lets go of the socket, which the next request is waited for at

    async def _put(self, line: bytes, timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            await asyncio.get_running_loop().sock_sendall(self.connection, line)


async def readable(sock: socket.socket) -> None:
    """Wait until there is something to take from a socket; it may be gone again."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)
