"""The master's end of the control socket.

Each client is served by a task of its own, one request at a time. None of them can hold the master up: who has sent no
complete request, or taken no response, within its deadline is dropped; there are only so many clients; a line has a
longest length; and who may not control the daemon is told so before a byte of his is read.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soniqd.control.codec import LineBuffer, decode_request, encode_response
from soniqd.control.listening import Listener, listen
from soniqd.control.message import Failed, Request, Response, Succeeded
from soniqd.control.peer import Peer
from soniqd.errors import ControlError, SoniqError
from soniqd.log import catalogue, emit
from soniqd.log.redact import redact

Handler = Callable[[Request, Peer], Awaitable[dict[str, Any]]]

_RECEIVE_SIZE = 64 * 1024
_ACCEPT_RETRY_S = 0.5
_NO_ID = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all of them together, may take."""

    clients: int = 32
    request_timeout_s: float = 10.0
    response_timeout_s: float = 10.0
    close_timeout_s: float = 1.0


class ControlServer:
    """Serves requests on a unix socket until closed.

    ``handler`` answers one request; a SoniqError that it raises is the client's answer, anything else is logged and
    answered as an internal error. With ``listen_socket`` (inherited, listening) no path is taken.
    """

    def __init__(
        self,
        path: Path,
        handler: Handler,
        *,
        group: str | None = None,
        listen_socket: socket.socket | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._path = path
        self._handler = handler
        self._group = group
        self._inherited = listen_socket
        self._limits = limits or Limits()
        self._listener: Listener | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()

    @property
    def path(self) -> Path:
        """Where clients connect."""
        return self._path

    async def start(self) -> None:
        """Listen; raises ControlError (in use, no permission) or ConfigurationError (no such group)."""
        if self._inherited is not None:
            self._listener = Listener.inherited(self._inherited, self._path, group=self._group)
        else:
            self._listener = await listen(self._path, group=self._group)
        self._accepting = asyncio.create_task(self._accept(self._listener), name="control: accept")

    async def close(self) -> None:
        """Stop listening, let responses on their way arrive, drop the clients, remove the socket if it is ours."""
        if self._listener is None or self._accepting is None:
            return
        listener, self._listener = self._listener, None
        await _cancelled({self._accepting})
        listener.close()
        await _cancelled(self._clients - self._answering)
        if self._answering:
            await asyncio.wait(self._answering, timeout=self._limits.close_timeout_s)
        await _cancelled(self._clients)

    async def _accept(self, listener: Listener) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener.accepting)
            except OSError as error:
                emit(catalogue.CONTROL_ACCEPT_FAILED, error=str(error))
                await asyncio.sleep(_ACCEPT_RETRY_S)
                continue
            task = asyncio.create_task(self._serve(connection, listener.gid), name="control: client")
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)

    async def _serve(self, connection: socket.socket, gid: int) -> None:
        with connection, suppress(OSError, TimeoutError):
            connection.setblocking(False)
            peer = Peer.of(connection)
            if refusal := self._refusal(peer, gid):
                await self._send(connection, Failed(_NO_ID, ControlError.code, refusal))
                return
            await self._converse(connection, peer)

    def _refusal(self, peer: Peer, gid: int) -> str | None:
        if not peer.may_control(uid=os.geteuid(), gid=gid):
            emit(catalogue.CONTROL_PEER_REFUSED, pid=peer.pid, uid=peer.uid)
            return f"permission denied: user {peer.uid} is not root, not soniqd's own and not in group {gid}"
        if len(self._clients) > self._limits.clients:
            emit(catalogue.CONTROL_BUSY, clients=self._limits.clients)
            return f"too many clients: soniqd serves {self._limits.clients} at once; try again"
        return None

    async def _converse(self, connection: socket.socket, peer: Peer) -> None:
        lines = LineBuffer()
        while True:
            try:
                line = await self._receive(connection, lines)
                request = None if line is None else decode_request(line)
            except ControlError as error:
                await self._send(connection, Failed(_NO_ID, error.code, str(error)))
                return
            if request is None:
                return
            await self._respond(connection, request, peer)

    async def _receive(self, connection: socket.socket, lines: LineBuffer) -> bytes | None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._limits.request_timeout_s):
            while (line := lines.next_line()) is None:
                data = await loop.sock_recv(connection, _RECEIVE_SIZE)
                if not data:
                    return None
                lines.feed(data)
        return line

    async def _respond(self, connection: socket.socket, request: Request, peer: Peer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        try:
            await self._send(connection, await self._answer(request, peer))
        finally:
            self._answering.discard(task)

    async def _answer(self, request: Request, peer: Peer) -> Response:
        try:
            return Succeeded(request.id, await self._handler(request, peer))
        except SoniqError as error:
            problems = tuple(redact(problem) for problem in getattr(error, "problems", ()))
            return Failed(request.id, error.code, redact(str(error)), problems)
        except Exception as error:  # noqa: BLE001  a handler's defect must not end the master
            emit(catalogue.CONTROL_HANDLER_FAILED, command=request.command, error=redact(repr(error)), exc_info=error)
            message = f"internal error in {request.command}: {redact(repr(error))}; soniqd's log has more"
            return Failed(request.id, "SONIQ_INTERNAL", message)

    async def _send(self, connection: socket.socket, response: Response) -> None:
        async with asyncio.timeout(self._limits.response_timeout_s):
            await asyncio.get_running_loop().sock_sendall(connection, encode_response(response))


async def _cancelled(tasks: set[asyncio.Task[None]]) -> None:
    for task in tuple(tasks):
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
