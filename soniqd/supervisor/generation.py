"""A generation of the jobs code: booted, forked from, retired, handed over.

A :class:`Generation` is one fork server, or, where the jobs modules start threads at import, one that was used to check
them plus a fresh interpreter for each child. Either way the master asks :meth:`Generation.fork` and hears of the
outcome through the same callbacks.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from dataclasses import dataclass
from typing import Any, Protocol

from soniqd.control import fork as wire
from soniqd.errors import ControlError
from soniqd.log import catalogue, emit
from soniqd.model.child import ExitCause
from soniqd.supervisor.child import ChildProcess
from soniqd.supervisor.forkserver import ForkEvents, ForkServerProcess
from soniqd.supervisor.interpreter import Interpreter, InterpreterProcess, StartedServer, never_runs
from soniqd.supervisor.reaper import Reaper
from soniqd.version import __version__

RETIRE_GRACE_S = 2.0
"""What a fork server gets to leave when its socket has ended."""


class GenerationEvents(ForkEvents, Protocol):
    """Who hears what became of a fork server and of fork requests."""

    def generation_booted(self, generation: int, booted: wire.Booted) -> None: ...

    def generation_boot_failed(self, generation: int, failed: wire.BootFailed | None, cause: str) -> None: ...

    def generation_lost(self, generation: int, cause: ExitCause) -> None: ...


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
        self.tasks: tuple[str, ...] = ()
        self._interpreter = Interpreter(python, soft_nofile=soft_nofile, early=early)
        self._settings = settings
        self._loop = loop
        self._reaper = reaper
        self._events = events
        self._forkable = True
        self._retired = False
        self._main: ForkServerProcess | None = None
        self._becoming: list[ForkServerProcess] = []
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
        if self._becoming or (self._main and self._main.busy):
            return f"generation {self.number} is about to make a child"
        return f"generation {self.number} is booting" if self._main and not self._main.booted else None

    def hand_over(self) -> GenerationHandover:
        """Describe it; only while nothing is :attr:`outstanding`."""
        return GenerationHandover(
            number=self.number,
            python=self._interpreter.path,
            settings=self._settings,
            tasks=self.tasks,
            forkable=self._forkable,
            next_request=self._main.next_request if self._main else 1,
            pid=self.pid,
            fd=self._main.fd if self._main else None,
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
        if earlier.pid is not None and earlier.fd is not None:
            server = generation._server(InterpreterProcess.hold(earlier.pid, socket.socket(fileno=earlier.fd)))
            server.booted, server.next_request = True, earlier.next_request
            generation._main = server
            generation._attend(server)
        return generation

    def hang_up(self) -> None:
        """Send the fork server away, as if it had been lost: its end is told as such, and it can be booted again."""
        if self._main is not None:
            self._main.hang_up()

    def boot(self) -> None:
        """Start the fork server; its answer comes through the events. Raises nothing: failing to start is an event."""
        try:
            self._main = self._start(child=None)
        except ControlError as error:
            reason = f"the configuration is too long for a fork server: {error}"
            self._loop.call_soon(self._events.generation_boot_failed, self.number, _misconfigured(reason), reason)
        except OSError as error:
            reason = self._interpreter.describe(error)
            failed = _misconfigured(reason) if never_runs(error) else None
            self._loop.call_soon(self._events.generation_boot_failed, self.number, failed, reason)

    def fork(self, child: ChildProcess) -> None:
        """Ask for a child; the answer comes through the events."""
        if self._forkable and self._main is not None:
            self._main.ask(child)
        elif self._forkable:
            self._loop.call_soon(self._events.fork_failed, child, "the fork server is not running")
        else:
            try:
                self._becoming.append(self._start(child=child))
            except ControlError as error:
                self._loop.call_soon(self._events.fork_failed, child, str(error))
            except OSError as error:
                self._loop.call_soon(self._events.fork_failed, child, os.strerror(error.errno or 0))

    def forget(self, child: ChildProcess) -> None:
        """Give a fork request up. Should its child come all the same, it finds its link closed, and leaves."""
        for server in [server for server in self._becoming if server.child is child]:
            self._becoming.remove(server)
            server.drop("given up", tell=False)
        if self._main is not None:
            self._main.forget(child)

    def retire(self) -> None:
        """End the fork server. Requests without an answer fail."""
        self._retired = True
        servers = [*self._becoming, *([self._main] if self._main else [])]
        self._becoming, self._main = [], None
        for server in servers:
            server.drop("the fork server was retired")
        for pid in self._living:
            self._loop.call_later(RETIRE_GRACE_S, self._end_retired, pid)

    async def gone(self) -> None:
        """Wait for the end of a retired fork server, which is killed when it takes too long."""
        await self._all_gone.wait()

    def _end_retired(self, pid: int) -> None:
        if pid in self._living:
            self._reaper.signal(pid, signal.SIGKILL)

    # its processes

    def _start(self, *, child: ChildProcess | None) -> ForkServerProcess:
        server = self._server(self._interpreter.start(exec_child=child is not None), child)
        try:
            self._attend(server)
            server.boot(self._settings)
        except (OSError, ControlError):
            server.drop("it could not be told what to boot", tell=False)
            raise
        return server

    def _server(self, process: InterpreterProcess, child: ChildProcess | None = None) -> ForkServerProcess:
        return ForkServerProcess(
            process, generation=self.number, loop=self._loop, reaper=self._reaper, events=self._events, child=child
        )

    def _attend(self, server: ForkServerProcess) -> None:
        if server.child is None:
            self._reaper.watch(server.pid, lambda cause: self._exited(server, cause))
            self._living.add(server.pid)
            self._all_gone.clear()
        server.listen(self)

    def _exited(self, server: ForkServerProcess, cause: ExitCause) -> None:
        self._living.discard(server.pid)
        if not self._living:
            self._all_gone.set()
        if self._retired or server is not self._main:
            return
        server.read(self)
        if self._main is not server:
            return
        self._main = None
        server.drop(f"the fork server ended with {cause}", tell=not server.booted)
        if server.booted:
            self._events.generation_lost(self.number, cause)
        else:
            self._events.generation_boot_failed(
                self.number, None, f"the fork server ended with {cause} while importing"
            )

    # what they say

    def heard(self, server: ForkServerProcess, message: wire.Message) -> None:
        """Do what a fork server's message asks for; raises ControlError if it makes no sense."""
        match message:
            case wire.Booted():
                self._booted(server, message)
            case wire.BootFailed() if server.child is None:
                self._events.generation_boot_failed(self.number, message, "; ".join(message.problems))
                self.retire()
            case wire.BootFailed():
                self._fail(server, "; ".join(message.problems))
            case wire.Forked() | wire.ForkFailed():
                if server.settle(message) and server in self._becoming:
                    self._becoming.remove(server)
                    server.close()
            case _:
                raise ControlError(f"a fork server does not send {type(message).__name__}")

    def refused(self, server: ForkServerProcess, reason: str) -> None:
        """End a fork server that cannot be talked to: before it has booted, for want of the right configuration."""
        if server.child is not None:
            self._fail(server, reason)
        elif server.booted:
            server.kill()
        else:
            self._events.generation_boot_failed(self.number, _misconfigured(reason), reason)
            self.retire()

    def hung_up(self, server: ForkServerProcess) -> None:
        """See an interpreter end; the end of a fork server is heard from the reaper."""
        self._fail(server, "its interpreter ended before it became a child")

    def _fail(self, server: ForkServerProcess, reason: str) -> None:
        """End an interpreter that does not become a child; a fork server is left alone."""
        if server in self._becoming:
            self._becoming.remove(server)
            server.drop(reason)

    def _booted(self, server: ForkServerProcess, booted: wire.Booted) -> None:
        if booted.protocol != wire.PROTOCOL:
            raise ControlError(
                f"the fork server speaks protocol {booted.protocol}, this master {wire.PROTOCOL}: "
                f"install soniqd {__version__} for {self._interpreter.path}"
            )
        server.booted = True
        if server.child is not None:
            try:
                server.request(server.child)
            except OSError as error:
                self._fail(server, os.strerror(error.errno or 0))
            return
        self.tasks = booted.tasks
        if booted.threads:
            self._forkable = False
            emit(catalogue.GENERATION_HAS_THREADS, threads=", ".join(booted.threads), generation=self.number)
        self._events.generation_booted(self.number, booted)


def _misconfigured(problem: str) -> wire.BootFailed:
    """A boot that fails for the configuration, without a word from a fork server."""
    return wire.BootFailed(problems=(problem,), traceback="", version=__version__)
