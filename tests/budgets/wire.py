"""A pair of ears on the wire: counts what a client sends to PostgreSQL and gets back.

It passes everything on and reads only the frontend's messages (PostgreSQL manual, section 55.7: a byte that names the
type, four of length), so that it counts what happens, whatever the client believes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_PARSE, _QUERY, _EXECUTE, _SYNC = b"P", b"Q", b"E", b"S"


class Wire:
    """Listens between ``url``'s server and whoever connects to ``self.url``; only TCP without encryption."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._messages: Counter[bytes] = Counter()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.sent = 0
        self.received = 0
        self.url = ""

    @property
    def statements(self) -> int:
        return self._messages[_QUERY] + self._messages[_EXECUTE]

    @property
    def parsed(self) -> int:
        """Statements that the server had to parse and plan."""
        return self._messages[_QUERY] + self._messages[_PARSE]

    @property
    def round_trips(self) -> int:
        """How often the client waited for everything that it had asked."""
        return self._messages[_QUERY] + self._messages[_SYNC]

    def reset(self) -> None:
        self._messages.clear()
        self.sent = self.received = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        target = self._target._replace(
            netloc=f"{self._target.username}@127.0.0.1:{port}", query="sslmode=disable&gssencmode=disable"
        )
        self.url = urlunsplit(target)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._target.port is not None
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target.port)
        pair = (
            asyncio.create_task(self._ask(reader, to_server)),
            asyncio.create_task(self._answer(from_server, writer)),
        )
        self._tasks.update(pair)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readexactly(4)  # the first message has no type
            writer.write(head + await reader.readexactly(int.from_bytes(head) - 4))
            while head := await reader.read(1):
                length = await reader.readexactly(4)
                message = head + length + await reader.readexactly(int.from_bytes(length) - 4)
                self._messages[head] += 1
                self.sent += len(message)
                writer.write(message)
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                self.received += len(data)
                writer.write(data)
        finally:
            writer.close()
