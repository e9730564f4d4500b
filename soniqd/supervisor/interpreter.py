"""Starting the interpreter that becomes a fork server: command, environment, descriptors.

It gets one socket, on which it is told what to boot. What it prints goes where the master's output goes; the master's
talk with its service manager is not for it.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass

from soniqd.supervisor.descriptors import give_back_descriptor_limit

MASTERS_OWN = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}
)
_NOT_RUNNABLE = frozenset({errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR})


@dataclass(frozen=True, slots=True)
class StartedServer:
    """A fork server that runs, and waits to be told what to boot."""

    pid: int
    sock: socket.socket


@dataclass(slots=True)
class InterpreterProcess:
    """A process and the master's end of its socket; the pid is its own until the reaper has reaped it."""

    pid: int
    sock: socket.socket
    _pidfd: int

    @classmethod
    def hold(cls, pid: int, sock: socket.socket) -> InterpreterProcess:
        """Take a process that runs, and its socket; raises OSError, and leaves the socket open."""
        sock.setblocking(False)
        return cls(pid, sock, os.pidfd_open(pid))

    @property
    def closed(self) -> bool:
        """Whether there is nothing any more to kill it by, or to hear it on."""
        return self._pidfd < 0

    def kill(self) -> None:
        """End it at once; nothing happens if it has ended."""
        if not self.closed:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Give the descriptors back; if it runs, it sees the end of its socket."""
        if not self.closed:
            self.sock.close()
            os.close(self._pidfd)
            self._pidfd = -1


class Interpreter:
    """What a generation's processes run in. ``early`` is the first of them, if it runs already."""

    def __init__(self, python: str | None, *, soft_nofile: int | None, early: StartedServer | None) -> None:
        self.path = python or sys.executable
        self._soft_nofile = soft_nofile
        self._early = early

    def start(self, *, exec_child: bool) -> InterpreterProcess:
        """Start one; ``exec_child`` makes it become a child instead of forking any. Raises OSError."""
        early, self._early = self._early, None
        started = early or self._execute(exec_child=exec_child)
        try:
            process = InterpreterProcess.hold(started.pid, started.sock)
        except OSError:
            started.sock.close()
            raise
        try:
            if self._soft_nofile is not None:
                give_back_descriptor_limit(started.pid, self._soft_nofile)
        except OSError:
            process.close()
            raise
        return process

    def describe(self, error: OSError) -> str:
        """Say why it could not be started."""
        hint = "; check [jobs] python" if never_runs(error) else ""
        return f"cannot run {self.path}: {error.strerror}{hint}"

    def _execute(self, *, exec_child: bool) -> StartedServer:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [self.path, "-P", "-m", "soniqd.forkserver", "--fd", str(far.fileno())]
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


def never_runs(error: OSError) -> bool:
    """Whether the next attempt would fail likewise: there is nothing, or nothing that may or can be run."""
    return error.errno in _NOT_RUNNABLE


def environment() -> dict[str, str]:
    """Return what others inherit: not the master's talk with its service manager (sd_notify(3), sd_listen_fds(3))."""
    return {key: value for key, value in os.environ.items() if key not in MASTERS_OWN}
