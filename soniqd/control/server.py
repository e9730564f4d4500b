"""The master's end of the control socket.

Each client is served by a task of its own, one request at a time. None of them can hold the master up: who has sent no
complete request, or taken no response, within its deadline is dropped; there are only so many clients; a line has a
longest length; and who may not control the daemon is told so before a byte of his is read. A daemon that may open no
more files still answers one client at a time (:class:`~soniqd.control.spare.SpareDescriptor`), none of them a follower.

An answer may be a :class:`~soniqd.control.stream.Stream`: it goes on until it ends, the client leaves or says anything
more, or takes nothing for too long. There are fewer streams than clients, so that followers leave room for commands.

A process that executes another image of itself in place hands its socket and its clients over (:meth:`hand_over`).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soniqd.control.conversation import Conversation, Limits, readable
from soniqd.control.listening import Listener, listen
from soniqd.control.message import Failed, Request, Response, Succeeded
from soniqd.control.peer import Peer
from soniqd.control.shortage import shortage
from soniqd.control.spare import SpareDescriptor
from soniqd.control.stream import Stream
from soniqd.errors import ControlError, SoniqError
from soniqd.log import catalogue, emit
from soniqd.log.redact import redact

Handler = Callable[[Request, Peer], Awaitable[dict[str, Any] | Stream]]

_ACCEPT_RETRY_S = 0.5
_NO_ID = 0


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
        self._conversations: set[Conversation] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self._spare = SpareDescriptor()

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
        self._spare.take_up()
        self._accepting = asyncio.create_task(self._accept(self._listener), name="control: accept")

    def hand_over(self, *, answered_later: str) -> OpenSocket:
        """Describe the socket, and the clients who ask nothing now, or something with this command.

        Who follows a stream sees its connection end, and may connect again.
        """
        assert self._listener is not None, "only a server that listens can be handed over"
        connections = tuple(
            OpenConnection(each.connection.fileno(), each.received, None if each.request is None else each.request.id)
            for each in self._conversations
            if each.stream is None and (each.request is None or each.request.command == answered_later)
        )
        return OpenSocket(self._listener.accepting.fileno(), self._listener.file, connections)

    def resume(self, result: dict[str, Any]) -> None:
        """Go on with the clients that were handed over; those who wait for an answer get ``result``."""
        assert self._listener is not None, "to be called after start()"
        for each in self._handed_over.connections if self._handed_over else ():
            conversation = Conversation(socket.socket(fileno=each.fd), self._limits, received=each.received)
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
        self._spare.close()

    async def _accept(self, listener: Listener) -> None:
        while True:
            try:
                await readable(listener.accepting)
                connection = self._spare.accept(listener.accepting)
            except BlockingIOError:  # who wanted to connect has left again
                continue
            except OSError as error:
                emit(catalogue.CONTROL_ACCEPT_FAILED, error=str(error))
                await asyncio.sleep(_ACCEPT_RETRY_S)
                continue
            self._begin(Conversation(connection, self._limits), listener.gid)

    def _begin(self, conversation: Conversation, gid: int, answer: Response | None = None) -> None:
        task = asyncio.create_task(self._serve(conversation, gid, answer), name="control: client")
        self._conversations.add(conversation)
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)
        task.add_done_callback(lambda _: self._spare.take_up())

    async def _serve(self, conversation: Conversation, gid: int, answer: Response | None) -> None:
        try:
            with conversation.connection, suppress(OSError, TimeoutError):
                await self._receive(conversation, gid, answer)
        finally:
            self._conversations.discard(conversation)

    async def _receive(self, conversation: Conversation, gid: int, answer: Response | None) -> None:
        conversation.connection.setblocking(False)
        peer = Peer.of(conversation.connection)
        if refusal := self._refusal(peer, gid):
            await conversation.send(Failed(_NO_ID, ControlError.code, refusal))
            return
        if answer is not None:
            await conversation.send(answer)
        await self._converse(conversation, peer)

    def _refusal(self, peer: Peer, gid: int) -> str | None:
        if not peer.may_control(uid=os.geteuid(), gid=gid):
            emit(catalogue.CONTROL_PEER_REFUSED, pid=peer.pid, uid=peer.uid)
            return f"permission denied: user {peer.uid} is not root, not soniqd's own and not in group {gid}"
        if len(self._clients) > self._limits.clients:
            emit(catalogue.CONTROL_BUSY, clients=self._limits.clients)
            return f"too many clients: soniqd serves {self._limits.clients} at once; try again"
        return None

    async def _converse(self, conversation: Conversation, peer: Peer) -> None:
        while True:
            try:
                request = await conversation.receive()
            except ControlError as error:
                await conversation.send(Failed(_NO_ID, error.code, str(error)))
                return
            if request is None:
                return
            await self._respond(conversation, request, peer)

    async def _respond(self, conversation: Conversation, request: Request, peer: Peer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        conversation.request = request
        try:
            answer = await self._answer(request, peer)
            if isinstance(answer, Stream):
                answer = await self._follow(conversation, request.id, answer)
            await conversation.send(answer)
        finally:
            conversation.request = None
            self._answering.discard(task)

    async def _follow(self, conversation: Conversation, number: int, stream: Stream) -> Response:
        if sum(each.stream is not None for each in self._conversations) >= self._limits.streams:
            stream.close()
            message = f"too many followers: soniqd serves {self._limits.streams} at once; try again"
            return Failed(number, ControlError.code, message)
        self._spare.take_up()
        if not self._spare.is_held:  # a follower stays, and nobody else could ask for the reason
            stream.close()
            return Failed(number, ControlError.code, f"cannot follow: {os.strerror(errno.EMFILE)}; see soniqctl status")
        return await conversation.follow(number, stream)

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


async def _cancelled(tasks: set[asyncio.Task[None]]) -> None:
    for task in tuple(tasks):
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
