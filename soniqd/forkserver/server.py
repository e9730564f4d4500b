"""The conversation with the master: boot once, then fork on request until its socket ends."""

from __future__ import annotations

import fcntl
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from setproctitle import setproctitle

from soniqd.control.fork import (
    MAX_PACKET,
    ChildDescriptors,
    Fork,
    Forked,
    ForkFailed,
    Message,
    decode,
    encode,
)
from soniqd.errors import ControlError
from soniqd.forkserver import inspection
from soniqd.forkserver.boot import Generation, boot, boot_failed, read_boot
from soniqd.forkserver.child import Request, enter_child
from soniqd.forkserver.fitting import fitting
from soniqd.forkserver.forking import fork_orphan
from soniqd.log import catalogue, emit, printed

_DESCRIPTORS = len(ChildDescriptors._fields)
_EX_CONFIG = 78


class ForkServer:
    """Serves one master and one generation. ``exec_child``: become the first child instead of forking children."""

    def __init__(self, master: socket.socket, *, exec_child: bool = False) -> None:
        self._master = master
        self._exec_child = exec_child

    def run(self) -> int:
        """Serve until the master is gone; returns the exit code."""
        gc.disable()
        _ignore_terminal()
        _print_by_lines()
        printed.prepare()
        packet, descriptors = self._receive()
        _close_all(descriptors)
        if not packet:
            return 0
        try:
            with leaving_on_hangup(self._master):
                generation = boot(read_boot(packet))
        except Exception as error:  # noqa: BLE001  whatever is wrong with this generation is the master's to tell
            self._send(fitting(boot_failed(error)))
            return _EX_CONFIG
        _ignore_terminal()  # jobs modules may have had their own idea
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # with SIG_IGN a fork could not be told from a failed one
        setproctitle(f"soniqd: fork server gen {generation.number}")
        return self._serve(generation) if self._announce(generation) else 0

    def _announce(self, generation: Generation) -> bool:
        _flush_output()
        return self._send(fitting(generation.booted()))

    def _serve(self, generation: Generation) -> int:
        while True:
            packet, descriptors = self._receive()
            if not packet:
                return 0
            try:
                answer = self._answer(packet, descriptors, generation)
            except ControlError as error:
                emit(catalogue.FORK_REQUEST_REFUSED, error=str(error))
                continue
            finally:
                _close_all(descriptors)
            if not self._send(answer):
                return 0

    def _answer(self, packet: bytes, descriptors: list[int], generation: Generation) -> Message:
        fork = decode(packet)
        if not isinstance(fork, Fork):
            raise ControlError(f"cannot serve {type(fork).__name__}: a fork server takes Fork only")
        if len(descriptors) != _DESCRIPTORS:
            return ForkFailed(fork.request, f"{len(descriptors)} descriptors came with the request, not {_DESCRIPTORS}")
        request = Request(fork.spec, ChildDescriptors(*descriptors))
        if self._exec_child:
            self._become(fork.request, request, generation)
        if threads := inspection.running_threads():
            return ForkFailed(fork.request, f"it runs threads: {', '.join(threads)}")
        return self._fork(fork.request, request, generation)

    def _fork(self, number: int, request: Request, generation: Generation) -> Message:
        def become() -> int:
            self._master.close()
            return enter_child(request, generation)

        _flush_output()
        try:
            return Forked(number, fork_orphan(become))
        except OSError as error:
            return ForkFailed(number, error.strerror or str(error))

    def _become(self, number: int, request: Request, generation: Generation) -> None:
        """Be the child from here on; does not return."""
        self._send(Forked(number, os.getpid()))
        self._master.close()
        os._exit(enter_child(request, generation))

    def _receive(self) -> tuple[bytes, list[int]]:
        """Wait for a packet and its descriptors; an empty packet is the end."""
        try:
            packet, descriptors, flags, _ = socket.recv_fds(self._master, MAX_PACKET, _DESCRIPTORS + 1)
        except OSError:
            return b"", []
        for fd in descriptors:  # not by MSG_CMSG_CLOEXEC: recv_fds() of Python 3.11 leaves its flags out
            os.set_inheritable(fd, False)
        if flags & socket.MSG_TRUNC:
            emit(catalogue.FORK_REQUEST_REFUSED, error=f"a packet of more than {MAX_PACKET} bytes")
            return b"{}", descriptors
        return packet, descriptors

    def _send(self, message: Message) -> bool:
        """Return whether the master was there to take it."""
        try:
            self._master.send(encode(message))
        except OSError:
            return False
        return True


@contextmanager
def leaving_on_hangup(master: socket.socket) -> Iterator[None]:
    """Leave the process as soon as the master is gone, even in the middle of an import that never ends.

    The kernel raises SIGIO for anything that happens on the socket (see F_SETOWN(2const)).
    """

    def leave_if_gone(_signum: int, _frame: object) -> None:
        if _is_hung_up(master):
            os._exit(0)

    before = signal.signal(signal.SIGIO, leave_if_gone)
    flags = fcntl.fcntl(master, fcntl.F_GETFL)
    fcntl.fcntl(master, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(master, fcntl.F_SETFL, flags | os.O_ASYNC)
    if _is_hung_up(master):
        os._exit(0)
    try:
        yield
    finally:
        fcntl.fcntl(master, fcntl.F_SETFL, flags)
        signal.signal(signal.SIGIO, before)


def _is_hung_up(master: socket.socket) -> bool:
    poll = select.poll()
    poll.register(master, 0)
    return bool(poll.poll(0))


def _ignore_terminal() -> None:
    """Leave the terminal's and the service manager's signals to the master; SIGTERM ends this process."""
    for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _print_by_lines() -> None:
    """Let what jobs print be seen when it is printed, also where stdout is a pipe to the journal."""
    with suppress(AttributeError, OSError):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _flush_output() -> None:
    """Write out what modules printed, once: every child would write a copy of what is buffered."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr]


def _close_all(descriptors: list[int]) -> None:
    for fd in descriptors:
        with suppress(OSError):
            os.close(fd)
