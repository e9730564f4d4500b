"""The master's end of a fork server.

A :class:`Generation` is one process, or, where the jobs modules start threads at import, one process that was used to
check them plus a fresh interpreter for each child. Either way the master asks :meth:`Generation.fork` and hears of the
outcome through the same callbacks.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from soniqd.control import fork as wire
from soniqd.errors import ControlError
from soniqd.log import catalogue, emit
from soniqd.model.child import ExitCause
from soniqd.supervisor.child import ChildProcess
from soniqd.supervisor.descriptors import give_back_descriptor_limit
from soniqd.supervisor.reaper import Reaper
from soniqd.version import __version__

BOOT_GRACE_S = 10.0
"""What an interpreter gets beyond ``[jobs] import_timeout``, to start and to tell where an import hangs."""
FORK_TIMEOUT_S = 10.0
"""A fork takes milliseconds; a fork server that has not answered for so long stands still and is replaced."""
_NOT_RUNNABLE = frozenset({errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR})
MASTERS_OWN = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}
)
MAX_ASKED = 8
"""Forks that a fork server is asked for at once: it makes one after the other, its socket takes some hundred requests,
and each one's time to be answered begins when it is asked for."""
RETIRE_GRACE_S = 2.0
"""What a fork server gets to leave when its socket has ended."""


class GenerationEvents(Protocol):
    """Who hears what became of a fork server and of fork requests."""

    def generation_booted(self, generation: int, booted: wire.Booted) -> None: ...

    def generation_boot_failed(self, generation: int, failed: wire.BootFailed | None, cause: str) -> None: ...

    def generation_lost(self, generation: int, cause: ExitCause) -> None: ...

    def child_forked(self, child: ChildProcess, pid: int) -> None: ...

    def fork_failed(self, child: ChildProcess, reason: str) -> None: ...


@dataclass(slots=True)
class _Server:
    """One interpreter: the fork server itself, or (``child`` set) one that becomes a child."""

    pid: int
    pidfd: int
    sock: socket.socket
    child: ChildProcess | None = None
    booted: bool = False
    requests: dict[int, ChildProcess] = field(default_factory=dict)
    waiting: deque[ChildProcess] = field(default_factory=deque)
    """Children to be asked for when some of the ``requests`` are answered."""


@dataclass(frozen=True, slots=True)
class StartedServer:
    """A fork server that runs, and waits to be told what to boot."""

    pid: int
    sock: socket.socket


@dataclass(frozen=True, slots=True)
class GenerationHandover:
    """What the next image of the master needs to go on with a generation; without ``pid`` its server is lost."""

    number: int
    python: str
    settings: dict[str, Any]
    tasks: tuple[str, ...]
    forkable: bool
    next_request: int
    pid: int | None
    fd: int | None


class Generation:
    """A generation of the jobs code, ready to make children once ``generation_booted`` was called."""

    def __init__(
        self,
        number: int,
        *,
        python: str | None,
        settings: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
        reaper: Reaper,
        events: GenerationEvents,
        soft_nofile: int | None = None,
        early: StartedServer | None = None,
    ) -> None:
        self.number = number
        self._early = early
        self._soft_nofile = soft_nofile
        self.tasks: tuple[str, ...] = ()
        self._python = python or sys.executable
        self._settings = settings
        self._loop = loop
        self._reaper = reaper
        self._events = events
        self._forkable = True
        self._next_request = 1
        self._retired = False
        self._main: _Server | None = None
        self._becoming: list[_Server] = []
        self._living: set[int] = set()
        self._all_gone = asyncio.Event()
        self._all_gone.set()

    @property
    def pid(self) -> int | None:
        """The fork server's process id."""
        return self._main.pid if self._main else None

    @property
    def outstanding(self) -> str | None:
        """What a fork server still has to answer, if anything."""
        if self._becoming or (self._main and (self._main.requests or self._main.waiting)):
            return f"generation {self.number} is about to make a child"
        return f"generation {self.number} is booting" if self._main and not self._main.booted else None

    def hand_over(self) -> GenerationHandover:
        """Describe it; only while nothing is :attr:`outstanding`."""
        return GenerationHandover(
            number=self.number,
            python=self._python,
            settings=self._settings,
            tasks=self.tasks,
            forkable=self._forkable,
            next_request=self._next_request,
            pid=self.pid,
            fd=self._main.sock.fileno() if self._main else None,
        )

    @classmethod
    def resume(
        cls,
        earlier: GenerationHandover,
        *,
        loop: asyncio.AbstractEventLoop,
        reaper: Reaper,
        events: GenerationEvents,
        soft_nofile: int | None,
    ) -> Generation:
        """Go on with what an earlier image of the master described; raises OSError."""
        generation = cls(
            earlier.number,
            python=earlier.python,
            settings=earlier.settings,
            loop=loop,
            reaper=reaper,
            events=events,
            soft_nofile=soft_nofile,
        )
        generation.tasks, generation._forkable = earlier.tasks, earlier.forkable
        generation._next_request = earlier.next_request
        if earlier.pid is not None and earlier.fd is not None:
            sock = socket.socket(fileno=earlier.fd)
            sock.setblocking(False)
            generation._main = _Server(earlier.pid, os.pidfd_open(earlier.pid), sock, booted=True)
            generation._attend(generation._main)
        return generation

    def hang_up(self) -> None:
        """Send the fork server away, as if it had been lost: its end is told as such, and it can be booted again."""
        if self._main is not None:
            self._main.sock.shutdown(socket.SHUT_RDWR)

    @property
    def _boot_timeout_s(self) -> float:
        return float(self._settings["jobs"]["import_timeout"]) + BOOT_GRACE_S

    def boot(self) -> None:
        """Start the fork server; its answer comes through the events. Raises nothing: failing to start is an event."""
        try:
            self._main = self._start(child=None)
        except OSError as error:
            reason = f"cannot run {self._python}: {error.strerror}"
            failed = None
            if error.errno in _NOT_RUNNABLE:
                reason += "; check [jobs] python"
                failed = _misconfigured(reason)
            self._loop.call_soon(self._events.generation_boot_failed, self.number, failed, reason)

    def fork(self, child: ChildProcess) -> None:
        """Ask for a child; the answer comes through the events."""
        try:
            if not self._forkable:
                self._becoming.append(self._start(child=child))
            elif self._main is None:
                self._loop.call_soon(self._events.fork_failed, child, "the fork server is not running")
            else:
                self._main.waiting.append(child)
                self._ask(self._main)
        except OSError as error:
            self._loop.call_soon(self._events.fork_failed, child, os.strerror(error.errno or 0))

    def retire(self) -> None:
        """End the fork server. Requests without an answer fail."""
        self._retired = True
        servers = [*self._becoming, *([self._main] if self._main else [])]
        self._becoming, self._main = [], None
        for server in servers:
            self._drop(server, "the fork server was retired")
        for pid in self._living:
            self._loop.call_later(RETIRE_GRACE_S, self._end_retired, pid)

    def forget(self, child: ChildProcess) -> None:
        """Give a fork request up. Should its child come all the same, it finds its link closed, and leaves."""
        for server in [server for server in self._becoming if server.child is child]:
            self._becoming.remove(server)
            self._drop(server, "given up", tell=False)
        if self._main is not None:
            with suppress(ValueError):
                self._main.waiting.remove(child)
            requests = self._main.requests
            for request in [number for number, wanted in requests.items() if wanted is child]:
                del requests[request]
                self._reaper.arrived()
            self._ask(self._main)

    async def gone(self) -> None:
        """Wait for the end of a retired fork server, which is killed when it takes too long."""
        await self._all_gone.wait()

    def _end_retired(self, pid: int) -> None:
        if pid in self._living:
            self._reaper.signal(pid, signal.SIGKILL)

    def _start(self, *, child: ChildProcess | None) -> _Server:
        early, self._early = self._early, None
        started = early or self._execute(exec_child=child is not None)
        near, pidfd = started.sock, -1
        near.setblocking(False)
        try:
            pidfd = os.pidfd_open(started.pid)
            if self._soft_nofile is not None:
                give_back_descriptor_limit(started.pid, self._soft_nofile)
            server = _Server(started.pid, pidfd, near, child)
            self._attend(server)
        except OSError:
            near.close()  # if it runs, it sees the end of its socket
            if pidfd >= 0:
                os.close(pidfd)
            raise
        self._loop.call_later(self._boot_timeout_s, self._check_booted, server)
        boot = wire.Boot(self.number, self._settings, __version__)
        near.send(wire.encode(boot))
        return server

    def _execute(self, *, exec_child: bool) -> StartedServer:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [self._python, "-P", "-m", "soniqd.forkserver", "--fd", str(far.fileno())]
        if exec_child:
            command.append("--exec-child")
        try:
            process = subprocess.Popen(  # noqa: S603  configured
                command, pass_fds=[far.fileno()], stdin=subprocess.DEVNULL, env=environment()
            )
        except OSError:
            near.close()
            raise
        finally:
            far.close()
        process.returncode = 0  # the reaper waits for it, Popen must not
        return StartedServer(process.pid, near)

    def _attend(self, server: _Server) -> None:
        if server.child is not None:
            self._reaper.expect()
        else:
            self._reaper.watch(server.pid, lambda cause: self._exited(server, cause))
            self._living.add(server.pid)
            self._all_gone.clear()
        self._loop.add_reader(server.sock, self._read, server)

    def _ask(self, server: _Server) -> None:
        """Ask for children that wait, as many as may be asked for; what cannot be sent has failed."""
        while server.waiting and len(server.requests) < MAX_ASKED:
            child = server.waiting.popleft()
            try:
                self._request(server, child)
            except OSError as error:
                self._loop.call_soon(self._events.fork_failed, child, os.strerror(error.errno or 0))

    def _request(self, server: _Server, child: ChildProcess) -> None:
        request = self._next_request
        self._next_request += 1
        packet = wire.encode(wire.Fork(request, child.spec))
        socket.send_fds(server.sock, [packet], child.far_ends())
        child.far_ends_sent()
        server.requests[request] = child
        self._loop.call_later(FORK_TIMEOUT_S, self._check_answered, server, request)
        if server.child is None:
            self._reaper.expect()

    def _check_booted(self, server: _Server) -> None:
        if not server.booted and (server is self._main or server in self._becoming):
            self._end_hung(server, self._boot_timeout_s)

    def _check_answered(self, server: _Server, request: int) -> None:
        if request in server.requests:
            self._end_hung(server, FORK_TIMEOUT_S)

    def _end_hung(self, server: _Server, silent_s: float) -> None:
        emit(catalogue.FORK_SERVER_HUNG, generation=self.number, pid=server.pid, silent_s=silent_s)
        _kill(server)

    def _read(self, server: _Server) -> None:
        while server.sock.fileno() >= 0:
            try:
                packet = server.sock.recv(wire.MAX_PACKET)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._loop.remove_reader(server.sock)
                if server.child is not None and server in self._becoming:
                    self._becoming.remove(server)
                    self._drop(server, "its interpreter ended before it became a child")
                return
            try:
                self._take(server, wire.decode(packet))
            except ControlError as error:
                self._refuse(server, str(error))

    def _take(self, server: _Server, message: wire.Message) -> None:
        match message:
            case wire.Booted():
                self._booted(server, message)
            case wire.BootFailed() if server.child is None:
                self._events.generation_boot_failed(self.number, message, "; ".join(message.problems))
                self.retire()
            case wire.BootFailed():
                self._becoming.remove(server)
                self._drop(server, "; ".join(message.problems))
            case wire.Forked():
                self._settle(server, message.request, pid=message.pid, reason="")
            case wire.ForkFailed():
                self._settle(server, message.request, pid=None, reason=message.error)
            case _:
                raise ControlError(f"a fork server does not send {type(message).__name__}")

    def _booted(self, server: _Server, booted: wire.Booted) -> None:
        if booted.protocol != wire.PROTOCOL:
            raise ControlError(
                f"the fork server speaks protocol {booted.protocol}, this master {wire.PROTOCOL}: "
                f"install soniqd {__version__} for {self._python}"
            )
        server.booted = True
        if server.child is not None:
            self._request(server, server.child)
            return
        self.tasks = booted.tasks
        if booted.threads:
            self._forkable = False
            emit(catalogue.GENERATION_HAS_THREADS, threads=", ".join(booted.threads), generation=self.number)
        self._events.generation_booted(self.number, booted)

    def _settle(self, server: _Server, request: int, *, pid: int | None, reason: str) -> None:
        child = server.requests.pop(request, None)
        if child is None:
            return
        try:
            if pid is None:
                self._events.fork_failed(child, reason)
            else:
                self._events.child_forked(child, pid)
        finally:
            self._reaper.arrived()
            self._ask(server)
        if server in self._becoming:
            self._becoming.remove(server)
            self._close(server)

    def _exited(self, server: _Server, cause: ExitCause) -> None:
        self._living.discard(server.pid)
        if not self._living:
            self._all_gone.set()
        if self._retired or server is not self._main:
            return
        self._read(server)
        if self._main is not server:
            return
        self._main = None
        booted = server.booted
        self._drop(server, f"the fork server ended with {cause}", tell=not booted)
        if booted:
            self._events.generation_lost(self.number, cause)
        else:
            self._events.generation_boot_failed(
                self.number, None, f"the fork server ended with {cause} while importing"
            )

    def _refuse(self, server: _Server, reason: str) -> None:
        if server.booted or server.child is not None:
            self._loop.remove_reader(server.sock)
            _kill(server)
            return
        self._events.generation_boot_failed(self.number, _misconfigured(reason), reason)
        self.retire()

    def _drop(self, server: _Server, reason: str, *, tell: bool = True) -> None:
        if server.child is not None:
            _kill(server)  # reaped as an orphan
        self._close(server)
        asked, waiting = list(server.requests.values()), list(server.waiting)
        if server.child is not None and server.child not in asked:
            asked.append(server.child)
        server.requests.clear()
        server.waiting.clear()
        for child in (*asked, *waiting):
            if tell:
                self._events.fork_failed(child, reason)
        for _ in asked:
            self._reaper.arrived()

    def _close(self, server: _Server) -> None:
        if server.pidfd >= 0:
            self._loop.remove_reader(server.sock)
            server.sock.close()
            os.close(server.pidfd)
            server.pidfd = -1


def _kill(server: _Server) -> None:
    if server.pidfd >= 0:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(server.pidfd, signal.SIGKILL)


def _misconfigured(problem: str) -> wire.BootFailed:
    """A boot that fails for the configuration, without a word from a fork server."""
    return wire.BootFailed(problems=(problem,), traceback="", version=__version__)


def environment() -> dict[str, str]:
    """Return what others inherit: not the master's talk with its service manager (sd_notify(3), sd_listen_fds(3))."""
    return {key: value for key, value in os.environ.items() if key not in MASTERS_OWN}
