"""The master's end of one fork server: its process, its socket, the children that it was asked for.

Every child that is asked for is told of once, as made or as failed, unless it is given up before. From the request to
that moment the reaper keeps the exits of unknown processes: one of them may be the child's.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from contextlib import suppress
from typing import Any, Protocol

from soniqd.control import fork as wire
from soniqd.errors import ControlError
from soniqd.log import catalogue, emit
from soniqd.supervisor.child import ChildProcess
from soniqd.supervisor.interpreter import InterpreterProcess
from soniqd.supervisor.reaper import Reaper
from soniqd.version import __version__

BOOT_GRACE_S = 10.0
"""What an interpreter gets beyond ``[jobs] import_timeout``, to start and to tell where an import hangs."""
FORK_TIMEOUT_S = 10.0
"""A fork takes milliseconds; a fork server that has not answered for so long stands still and is replaced."""
MAX_ASKED = 8
"""Forks that a fork server is asked for at once: it makes one after the other, its socket takes some hundred requests,
and each one's time to be answered begins when it is asked for."""


class ForkEvents(Protocol):
    """Who hears what became of children."""

    def child_forked(self, child: ChildProcess, pid: int) -> None: ...

    def fork_failed(self, child: ChildProcess, reason: str) -> None: ...


class ForkServerOwner(Protocol):
    """Who hears what a fork server says. ControlError, raised by :meth:`heard`, has it refused."""

    def heard(self, server: ForkServerProcess, message: wire.Message) -> None: ...

    def refused(self, server: ForkServerProcess, reason: str) -> None: ...

    def hung_up(self, server: ForkServerProcess) -> None: ...


class ForkServerProcess:
    """One interpreter: the fork server itself, or (``child`` set) one that becomes a child.

    It kills a process that does not answer in time, and leaves it to others to see the end.
    """

    def __init__(
        self,
        process: InterpreterProcess,
        *,
        generation: int,
        loop: asyncio.AbstractEventLoop,
        reaper: Reaper,
        events: ForkEvents,
        child: ChildProcess | None = None,
    ) -> None:
        self.child = child
        self.booted = False
        self.next_request = 1
        self._process = process
        self._generation = generation
        self._loop = loop
        self._reaper = reaper
        self._events = events
        self._unsettled = child
        self._requests: dict[int, ChildProcess] = {}
        self._waiting: deque[ChildProcess] = deque()
        if child is not None:
            reaper.expect()

    @property
    def pid(self) -> int:
        """The interpreter's process id; it stays the same when the interpreter becomes a child."""
        return self._process.pid

    @property
    def fd(self) -> int:
        """The descriptor of the master's end of the socket."""
        return self._process.sock.fileno()

    @property
    def busy(self) -> bool:
        """Whether children have been asked for, or wait for that."""
        return bool(self._requests or self._waiting)

    # the conversation

    def boot(self, settings: dict[str, Any]) -> None:
        """Tell it what to boot, and kill it if that takes too long; raises OSError."""
        timeout_s = float(settings["jobs"]["import_timeout"]) + BOOT_GRACE_S
        self._loop.call_later(timeout_s, self._check_booted, timeout_s)
        self._process.sock.send(wire.encode(wire.Boot(self._generation, settings, __version__)))

    def listen(self, owner: ForkServerOwner) -> None:
        """Let ``owner`` hear what it says from now on; raises OSError."""
        self._loop.add_reader(self._process.sock, self.read, owner)

    def read(self, owner: ForkServerOwner) -> None:
        """Hear all that it has said so far."""
        while not self._process.closed:
            try:
                packet = self._process.sock.recv(wire.MAX_PACKET)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._loop.remove_reader(self._process.sock)
                owner.hung_up(self)
                return
            try:
                owner.heard(self, wire.decode(packet))
            except ControlError as error:
                owner.refused(self, str(error))

    def hang_up(self) -> None:
        """End the conversation: it leaves as if its master were gone."""
        self._process.sock.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        """Hear nothing more of it, and end it; somebody else sees its end."""
        if not self._process.closed:
            self._loop.remove_reader(self._process.sock)
            self._process.kill()

    def close(self) -> None:
        """Give its descriptors back; if it is a fork server still, it leaves."""
        if not self._process.closed:
            self._loop.remove_reader(self._process.sock)
            self._process.close()

    def drop(self, reason: str, *, tell: bool = True) -> None:
        """Have done with it: what has not been answered fails, and with ``tell`` it is said so."""
        if self.child is not None:
            self._process.kill()  # reaped as an orphan
        self.close()
        asked, waiting = list(self._requests.values()), list(self._waiting)
        if self._unsettled is not None and self._unsettled not in asked:
            asked.append(self._unsettled)
        self._unsettled = None
        self._requests.clear()
        self._waiting.clear()
        for child in (*asked, *waiting):
            if tell:
                self._events.fork_failed(child, reason)
        for _ in asked:
            self._reaper.arrived()

    # children

    def ask(self, child: ChildProcess) -> None:
        """Ask for a child, now or when some others have been answered."""
        self._waiting.append(child)
        self._ask_waiting()

    def request(self, child: ChildProcess) -> None:
        """Ask for a child now; raises OSError, and ControlError if the request does not fit a packet."""
        request = self.next_request
        self.next_request += 1
        packet = wire.encode(wire.Fork(request, child.spec))
        socket.send_fds(self._process.sock, [packet], child.far_ends())
        child.far_ends_sent()
        self._requests[request] = child
        self._loop.call_later(FORK_TIMEOUT_S, self._check_answered, request)
        if self.child is None:
            self._reaper.expect()

    def settle(self, answer: wire.Forked | wire.ForkFailed) -> bool:
        """Tell what became of a child, unless it was given up; return whether somebody had asked for it."""
        child = self._requests.pop(answer.request, None)
        if child is None:
            return False
        self._unsettled = None
        try:
            if isinstance(answer, wire.Forked):
                self._events.child_forked(child, answer.pid)
            else:
                self._events.fork_failed(child, answer.error)
        finally:
            self._reaper.arrived()
            self._ask_waiting()
        return True

    def forget(self, child: ChildProcess) -> None:
        """Give a child up."""
        with suppress(ValueError):
            self._waiting.remove(child)
        for request in [number for number, wanted in self._requests.items() if wanted is child]:
            del self._requests[request]
            self._reaper.arrived()
        self._ask_waiting()

    def _ask_waiting(self) -> None:
        """Ask for children that wait, as many as may be asked for; what cannot be sent has failed."""
        while self._waiting and len(self._requests) < MAX_ASKED:
            child = self._waiting.popleft()
            try:
                self.request(child)
            except ControlError as error:
                self._loop.call_soon(self._events.fork_failed, child, str(error))
            except OSError as error:
                self._loop.call_soon(self._events.fork_failed, child, os.strerror(error.errno or 0))

    # deadlines

    def _check_booted(self, silent_s: float) -> None:
        if not self.booted:
            self._end_hung(silent_s)

    def _check_answered(self, request: int) -> None:
        if request in self._requests:
            self._end_hung(FORK_TIMEOUT_S)

    def _end_hung(self, silent_s: float) -> None:
        if self._process.closed:
            return
        emit(catalogue.FORK_SERVER_HUNG, generation=self._generation, pid=self.pid, silent_s=silent_s)
        self._process.kill()
