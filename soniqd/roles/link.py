"""The child's end of its link: never waits, never grows, and notices when the master is gone."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

from soniqd.control import link as wire
from soniqd.errors import ControlError
from soniqd.log import catalogue, emit

_MAX_UNSENT = 64 * 1024
"""A master that reads nothing for this long a stretch is hung; what it missed is said again by the next State."""


class Link:
    """Messages to and from the master.

    A State that was not written yet is replaced by a newer one, everything else keeps its order. ``on_lost`` is
    called once, when the master has closed its end or broke the protocol.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        *,
        on_message: Callable[[wire.Message], None],
        on_lost: Callable[[], None],
    ) -> None:
        self.lost = False
        self._sock = sock
        self._loop = loop
        self._on_message = on_message
        self._on_lost = on_lost
        self._received = b""
        self._unsent = b""
        self._state: wire.State | None = None
        sock.setblocking(False)

    def start(self) -> None:
        """Begin to listen."""
        self._loop.add_reader(self._sock, self._read)

    def send(self, message: wire.Message) -> None:
        """Hand a message over; it is written now or as soon as the socket takes it."""
        if self.lost:
            return
        if isinstance(message, wire.State):
            self._state = message
        elif len(self._unsent) < _MAX_UNSENT:
            self._take_state()
            self._unsent += wire.encode(message)
        self._flush()

    def close(self, *, patience_s: float) -> None:
        """Write what is left, for at most ``patience_s``, and hang up. To be called when the loop has no more to do."""
        if not self.lost:
            self._take_state()
            self._write_out(time.monotonic() + patience_s)
        self._lose()
        self._sock.close()

    def _take_state(self) -> None:
        if self._state is not None:
            self._unsent += wire.encode(self._state)
            self._state = None

    def _flush(self) -> None:
        if not self._unsent:
            self._take_state()
        try:
            sent = self._sock.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            return  # the reader sees the end, too, and what it may still hold comes first
        self._unsent = self._unsent[sent:]
        if self._unsent or self._state is not None:
            self._loop.add_writer(self._sock, self._flush)
        else:
            self._loop.remove_writer(self._sock)

    def _write_out(self, deadline: float) -> None:
        try:
            self._sock.settimeout(max(deadline - time.monotonic(), 0.001))
            self._sock.sendall(self._unsent)
        except OSError:
            return

    def _read(self) -> None:
        try:
            received = self._sock.recv(wire.MAX_LINE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            received = b""
        try:
            messages = self._take(received)
        except ControlError as error:
            emit(catalogue.LINK_BROKEN, error=str(error))
            messages, received = [], b""
        for message in messages:
            self._on_message(message)
        if not received:
            self._lose()
            self._on_lost()

    def _take(self, received: bytes) -> list[wire.Message]:
        *lines, self._received = (self._received + received).split(b"\n")
        if len(self._received) > wire.MAX_LINE:
            raise ControlError(f"a link message of more than {wire.MAX_LINE} bytes")
        return [wire.decode(line) for line in lines]

    def _lose(self) -> None:
        if not self.lost:
            self.lost = True
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
