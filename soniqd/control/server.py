"""The master's end of the control socket.

Each client is served by a task of its own, one request at a time. None of them can hold the master up: who has sent no
complete request, or taken no response, within its deadline is dropped; there are only so many clients; a line has a
longest length; and who may not control the daemon is told so before a byte of his is read.

An answer may be a :class:`~soniqd.control.stream.Stream`: it goes on until it ends, the client leaves or says anything
more, or takes nothing for too long. There are fewer streams than clients, so that followers leave room for commands.

A process that executes another image of itself in place hands its socket and its clients over (:meth:`hand_over`).
So that at any moment each byte received is either the kernel's or in a :class:`_Conversation`, sockets are waited for
and then read in one step; ``loop.sock_recv`` would keep bytes in a future for a turn of the loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soniqd.control.codec import LineBuffer, decode_request, encode_items, encode_response
from soniqd.control.listening import Listener, listen
from soniqd.control.message import Failed, Items, Request, Response, Succeeded
from soniqd.control.peer import Peer
from soniqd.control.shortage import shortage
from soniqd.control.stream import Stream
from soniqd.errors import ControlError, SoniqError
from soniqd.log import catalogue, emit
from soniqd.log.redact import redact

Handler = Callable[[Request, Peer], Awaitable[dict[str, Any] | Stream]]

_RECEIVE_SIZE = 64 * 1024
_ACCEPT_RETRY_S = 0.5
_NO_ID = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all of them together, may take."""

    clients: int = 32
    streams: int = 16
    request_timeout_s: float = 10.0
    response_timeout_s: float = 10.0
    stream_timeout_s: float = 30.0
    close_timeout_s: float = 1.0


@dataclass(frozen=True, slots=True)
class OpenConnection:
    """A client whom another image of this process goes on with.

    ``received`` is the beginning of a request; ``answering`` is the id of the one that still waits for its answer.
    """

    fd: int
    received: bytes = b""
    answering: int | None = None


@dataclass(frozen=True, slots=True)
class OpenSocket:
    """A listening socket that another image of this process goes on with, by the file that is its own."""

    fd: int
    file: tuple[int, int] | None
    connections: tuple[OpenConnection, ...] = ()


@dataclass(eq=False, slots=True)
class _Conversation:
    """One client; ``request`` is what is being answered, ``stream`` what it follows."""

    connection: socket.socket
    lines: LineBuffer
    request: Request | None = None
    stream: Stream | None = None


class ControlServer:
    """Serves requests on a unix socket until closed.

    ``handler`` answers one request; a SoniqError that it raises is the client's answer, anything else is logged and
    answered as an internal error. With ``listen_socket`` (inherited, listening) no path is taken; with ``handed_over``
    neither, and its clients are gone on with.
    """

    def __init__(
        self,
        path: Path,
        handler: Handler,
        *,
        group: str | None = None,
        listen_socket: socket.socket | None = None,
        handed_over: OpenSocket | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._path = path
        self._handler = handler
        self._group = group
        self._inherited = listen_socket
        self._handed_over = handed_over
        self._limits = limits or Limits()
        self._listener: Listener | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._conversations: set[_Conversation] = set()
        self._answering: set[asyncio.Task[None]] = set()

    @property
    def path(self) -> Path:
        """Where clients connect."""
        return self._path

    async def start(self) -> None:
        """Listen; raises ControlError (in use, no permission) or ConfigurationError (no such group)."""
        if self._handed_over is not None:
            self._listener = Listener.handed_over(
                socket.socket(fileno=self._handed_over.fd), self._path, group=self._group, file=self._handed_over.file
            )
        elif self._inherited is not None:
            self._listener = Listener.inherited(self._inherited, self._path, group=self._group)
        else:
            self._listener = await listen(self._path, group=self._group)
        self._accepting = asyncio.create_task(self._accept(self._listener), name="control: accept")

    def hand_over(self, *, answered_later: str) -> OpenSocket:
        """Describe the socket, and the clients who ask nothing now, or something with this command.

        Who follows a stream sees its connection end, and may connect again.
        """
        assert self._listener is not None, "only a server that listens can be handed over"
        connections = tuple(
            OpenConnection(each.connection.fileno(), each.lines.rest, None if each.request is None else each.request.id)
            for each in self._conversations
            if each.stream is None and (each.request is None or each.request.command == answered_later)
        )
        return OpenSocket(self._listener.accepting.fileno(), self._listener.file, connections)

    def resume(self, result: dict[str, Any]) -> None:
        """Go on with the clients that were handed over; those who wait for an answer get ``result``."""
        assert self._listener is not None, "to be called after start()"
        for each in self._handed_over.connections if self._handed_over else ():
            conversation = _Conversation(socket.socket(fileno=each.fd), LineBuffer())
            conversation.lines.feed(each.received)
            answer = None if each.answering is None else Succeeded(each.answering, result)
            self._begin(conversation, self._listener.gid, answer)

    def being_answered(self) -> set[str]:
        """Return the commands that clients wait for right now; streams, which have no end, are none of them."""
        return {each.request.command for each in self._conversations if each.request and each.stream is None}

    async def close(self) -> None:
        """Stop listening, let responses on their way arrive, drop the clients, remove the socket if it is ours."""
        if self._listener is None or self._accepting is None:
            return
        listener, self._listener = self._listener, None
        await _cancelled({self._accepting})
        listener.close()
        for conversation in self._conversations:
            if conversation.stream is not None:
                conversation.stream.end()
        await _cancelled(self._clients - self._answering)
        if self._answering:
            await asyncio.wait(self._answering, timeout=self._limits.close_timeout_s)
        await _cancelled(self._clients)

    async def _accept(self, listener: Listener) -> None:
        while True:
            try:
                await _readable(listener.accepting)
                connection, _ = listener.accepting.accept()
            except BlockingIOError:  # who wanted to connect has left again
                continue
            except OSError as error:
                emit(catalogue.CONTROL_ACCEPT_FAILED, error=str(error))
                await asyncio.sleep(_ACCEPT_RETRY_S)
                continue
            self._begin(_Conversation(connection, LineBuffer()), listener.gid)

    def _begin(self, conversation: _Conversation, gid: int, answer: Response | None = None) -> None:
        task = asyncio.create_task(self._serve(conversation, gid, answer), name="control: client")
        self._conversations.add(conversation)
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, conversation: _Conversation, gid: int, answer: Response | None) -> None:
        connection = conversation.connection
        with self._ending(conversation), connection, suppress(OSError, TimeoutError):
            connection.setblocking(False)
            peer = Peer.of(connection)
            if refusal := self._refusal(peer, gid):
                await self._send(connection, Failed(_NO_ID, ControlError.code, refusal))
                return
            if answer is not None:
                await self._send(connection, answer)
            await self._converse(conversation, peer)

    @contextmanager
    def _ending(self, conversation: _Conversation) -> Iterator[None]:
        try:
            yield
        finally:
            self._conversations.discard(conversation)

    def _refusal(self, peer: Peer, gid: int) -> str | None:
        if not peer.may_control(uid=os.geteuid(), gid=gid):
            emit(catalogue.CONTROL_PEER_REFUSED, pid=peer.pid, uid=peer.uid)
            return f"permission denied: user {peer.uid} is not root, not soniqd's own and not in group {gid}"
        if len(self._clients) > self._limits.clients:
            emit(catalogue.CONTROL_BUSY, clients=self._limits.clients)
            return f"too many clients: soniqd serves {self._limits.clients} at once; try again"
        return None

    async def _converse(self, conversation: _Conversation, peer: Peer) -> None:
        while True:
            try:
                line = await self._receive(conversation)
                request = None if line is None else decode_request(line)
            except ControlError as error:
                await self._send(conversation.connection, Failed(_NO_ID, error.code, str(error)))
                return
            if request is None:
                return
            await self._respond(conversation, request, peer)

    async def _receive(self, conversation: _Conversation) -> bytes | None:
        async with asyncio.timeout(self._limits.request_timeout_s):
            while (line := conversation.lines.next_line()) is None:
                await _readable(conversation.connection)
                with suppress(BlockingIOError):
                    data = conversation.connection.recv(_RECEIVE_SIZE)
                    if not data:
                        return None
                    conversation.lines.feed(data)
        return line

    async def _respond(self, conversation: _Conversation, request: Request, peer: Peer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        conversation.request = request
        try:
            answer = await self._answer(request, peer)
            if isinstance(answer, Stream):
                answer = await self._follow(conversation, request.id, answer)
            await self._send(conversation.connection, answer)
        finally:
            conversation.request = None
            self._answering.discard(task)

    async def _follow(self, conversation: _Conversation, number: int, stream: Stream) -> Response:
        """Send what a stream has until it, or the client, has had enough; return the end of the answer."""
        if sum(each.stream is not None for each in self._conversations) >= self._limits.streams:
            stream.close()
            message = f"too many followers: soniqd serves {self._limits.streams} at once; try again"
            return Failed(number, ControlError.code, message)
        conversation.stream = stream
        # Before the first word to the client: what it says from then on, and its end, are not missed.
        leaving = asyncio.create_task(_readable(conversation.connection), name="control: follower")
        leaving.add_done_callback(lambda _: stream.end())
        try:
            items: tuple[dict[str, Any], ...] = ()
            while True:
                await self._put(conversation.connection, encode_items(Items(number, items)))
                items = () if leaving.done() else await stream.take()
                if not items:
                    return Succeeded(number, {})
        except ControlError as error:
            return Failed(number, error.code, str(error))
        finally:
            conversation.stream = None
            stream.close()
            leaving.cancel()
            await asyncio.wait({leaving})  # it lets go of the socket, which the next request is waited for at

    async def _answer(self, request: Request, peer: Peer) -> Response | Stream:
        try:
            answer = await self._handler(request, peer)
            return answer if isinstance(answer, Stream) else Succeeded(request.id, answer)
        except SoniqError as error:
            problems = tuple(redact(problem) for problem in getattr(error, "problems", ()))
            return Failed(request.id, error.code, redact(str(error)), problems)
        except Exception as error:  # noqa: BLE001  a handler's defect must not end the master
            if (reason := shortage(error)) is not None:
                return Failed(request.id, ControlError.code, f"cannot {request.command}: {reason}")
            emit(catalogue.CONTROL_HANDLER_FAILED, command=request.command, error=redact(repr(error)), exc_info=error)
            message = f"internal error in {request.command}: {redact(repr(error))}; soniqd's log has more"
            return Failed(request.id, "SONIQ_INTERNAL", message)

    async def _send(self, connection: socket.socket, response: Response) -> None:
        async with asyncio.timeout(self._limits.response_timeout_s):
            await asyncio.get_running_loop().sock_sendall(connection, encode_response(response))

    async def _put(self, connection: socket.socket, line: bytes) -> None:
        async with asyncio.timeout(self._limits.stream_timeout_s):
            await asyncio.get_running_loop().sock_sendall(connection, line)


async def _cancelled(tasks: set[asyncio.Task[None]]) -> None:
    for task in tuple(tasks):
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


async def _readable(sock: socket.socket) -> None:
    """Wait until there is something to take from a socket; it may be gone again."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)
