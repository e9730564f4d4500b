"""Every process that ends below the master is reaped here, whoever started it.

The master is a child subreaper (prctl(2), PR_SET_CHILD_SUBREAPER), so forked children are adopted by it, and so is what
their jobs leave behind. The process group of a watched child that died is killed *before* the child is reaped: till
then neither pid nor group can be reused. Then its owner is told. Other processes are reaped quietly.

A child can end before the master has learnt its pid from the fork server. While forks are outstanding (see
:meth:`Reaper.expect`), the exits of unknown processes are kept and handed out when the pid gets watched.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Callable
from contextlib import suppress

from soniqd.log import catalogue, emit
from soniqd.model.child import ExitCause

_PR_SET_CHILD_SUBREAPER = 36

OnExit = Callable[[ExitCause], None]


def become_subreaper() -> None:
    """Adopt orphaned descendants from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a child subreaper")


class Reaper:
    """Reaps children; owners :meth:`watch` the ones they know."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # inherited, and it would hide every exit (waitpid(2), NOTES)
        self._loop = loop
        self._owners: dict[int, OnExit] = {}
        self._pidfds: dict[int, int] = {}
        self._early: dict[int, ExitCause] = {}
        self._expected = 0

    def watch(self, pid: int, on_exit: OnExit) -> None:
        """Call ``on_exit`` once, from the loop, when this child ends; also if it already has.

        Raises OSError, and watches nothing, if no descriptor can be had for it.
        """
        early = self._early.pop(pid, None)
        if early is not None and not _is_living_child(pid):
            self._loop.call_soon(on_exit, early)
            return
        pidfd = os.pidfd_open(pid)
        self._owners[pid], self._pidfds[pid] = on_exit, pidfd
        self._loop.add_reader(pidfd, self.reap)

    def signal(self, pid: int, number: signal.Signals, *, group: bool = False) -> None:
        """Signal a watched child, or its process group; nothing happens if it has ended."""
        pidfd = self._pidfds.get(pid)
        if pidfd is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            if group:
                os.killpg(pid, number)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)

    def expect(self) -> None:
        """Keep the exits of unknown processes until :meth:`arrived`: one of them may be a child about to be watched."""
        self._expected += 1

    def arrived(self) -> None:
        """An outstanding fork is settled (its child is watched, or there is none)."""
        self._expected -= 1
        if self._expected == 0:
            self._early.clear()

    def reap(self) -> None:
        """Reap everything that has ended."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                self._lose_all()
                return
            if ended is None:
                return
            self._reap_one(ended.si_pid, _exit_cause(ended))

    def close(self) -> None:
        """Stop watching."""
        for pid in list(self._pidfds):
            self._unwatch(pid)

    def _reap_one(self, pid: int, cause: ExitCause) -> None:
        on_exit = self._owners.pop(pid, None)
        self._unwatch(pid)
        if on_exit is not None and not cause.clean:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # what it started must not go on with a job that runs again elsewhere
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
        if on_exit is not None:
            on_exit(cause)
        elif self._expected:
            self._early[pid] = cause
        else:
            emit(catalogue.ORPHAN_REAPED, pid=pid, cause=cause)

    def _lose_all(self) -> None:
        """There is no child at all: somebody else has reaped those that are still watched."""
        owners, self._owners = self._owners, {}
        for pid, on_exit in owners.items():
            self._unwatch(pid)
            on_exit(ExitCause())

    def _unwatch(self, pid: int) -> None:
        pidfd = self._pidfds.pop(pid, None)
        if pidfd is not None:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)


def _exit_cause(ended: os.waitid_result) -> ExitCause:
    if ended.si_code == os.CLD_EXITED:
        return ExitCause(code=ended.si_status)
    return ExitCause(signal=ended.si_status)


def _is_living_child(pid: int) -> bool:
    """Tell a child that got the pid of one that has ended meanwhile."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False
