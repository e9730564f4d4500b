"""The master's end of one child: its link, its tick memory, its pid."""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
import signal
import socket
import struct
import time
from collections.abc import Callable

from soniqd.control import link
from soniqd.errors import ControlError
from soniqd.model.child import ChildSpec, ExitCause
from soniqd.supervisor.reaper import Reaper

TICK_BYTES = 8
_MAX_UNSENT = 64 * 1024
_LAST_READS = 64
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
"""A tick memory that a child could truncate would kill the master that reads it (mmap(2), SIGBUS)."""

OnMessage = Callable[[str, link.Message], None]
OnExit = Callable[[str, ExitCause], None]


class ChildProcess:
    """One child. Its far ends (:attr:`far_link`, :attr:`tick_fd`) go to the fork server, then are closed here."""

    def __init__(self, spec: ChildSpec, loop: asyncio.AbstractEventLoop, reaper: Reaper) -> None:
        self.spec = spec
        self.pid: int | None = None
        self.state = link.State(phase="starting")
        self.said_goodbye = False
        self.requested_s = time.monotonic()
        self._loop = loop
        self._reaper = reaper
        self._link, self.far_link = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._link.setblocking(False)
        self.tick_fd = -1
        try:
            self.tick_fd = os.memfd_create("soniqd-tick", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(self.tick_fd, TICK_BYTES)
            fcntl.fcntl(self.tick_fd, fcntl.F_ADD_SEALS, _SEALS)
            self._tick = mmap.mmap(self.tick_fd, TICK_BYTES, access=mmap.ACCESS_READ)
        except OSError:
            self._link.close()
            self.far_ends_sent()
            raise
        self._received = b""
        self._unsent = b""
        self._on_message: OnMessage | None = None
        self._linked = True

    def far_ends_sent(self) -> None:
        """Close this process's copies of what the child has now: else the child's end of file would never come."""
        self.far_link.close()
        if self.tick_fd >= 0:
            os.close(self.tick_fd)
            self.tick_fd = -1

    def adopt(self, pid: int, *, on_message: OnMessage, on_exit: OnExit) -> None:
        """Begin to watch and to listen. ``on_exit`` is called once, after every message that the child has sent."""
        self.pid = pid
        self._on_message = on_message
        self._loop.add_reader(self._link, self._read)
        self._reaper.watch(pid, lambda cause: self._exited(cause, on_exit))

    @property
    def tick(self) -> int:
        """The child's tick counter."""
        value: int = struct.unpack("<Q", self._tick[:TICK_BYTES])[0]
        return value

    def send(self, message: link.Message) -> None:
        """Send without ever waiting. A child that reads nothing loses messages past a bound; it is hung then anyway."""
        if not self._linked:
            return
        if len(self._unsent) < _MAX_UNSENT:
            self._unsent += link.encode(message)
        self._flush()

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Signal the child, or its whole process group."""
        if self.pid is not None:
            self._reaper.signal(self.pid, number, group=group)

    def close(self) -> None:
        """Give every descriptor back; a living child sees the end of its link and leaves."""
        self.far_ends_sent()
        self._unlink()
        if not self._tick.closed:
            self._tick.close()

    def _exited(self, cause: ExitCause, on_exit: OnExit) -> None:
        try:
            for _ in range(_LAST_READS):
                if not self._read():
                    break
        finally:
            self.close()
            on_exit(self.spec.worker_id, cause)

    def _flush(self) -> None:
        try:
            sent = self._link.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._unsent = b""
            self._loop.remove_writer(self._link)
            return
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._loop.add_writer(self._link, self._flush)
        else:
            self._loop.remove_writer(self._link)

    def _read(self) -> bool:
        """Read once, so that a talkative child cannot keep the loop; return whether there may be more."""
        if not self._linked:
            return False
        try:
            received = self._link.recv(link.MAX_LINE)
        except BlockingIOError:
            return False
        except OSError:
            received = b""
        if not received:
            self._unlink()
            return False
        self._received += received
        self._take_lines()
        return True

    def _take_lines(self) -> None:
        *lines, self._received = self._received.split(b"\n")
        if len(self._received) > link.MAX_LINE:
            self._unlink()
            return
        for line in lines:
            try:
                message = link.decode(line)
            except ControlError:
                self._unlink()
                return
            if isinstance(message, link.State):
                self.state = message
            self.said_goodbye = self.said_goodbye or isinstance(message, link.Leaving)
            if self._on_message is not None:
                self._on_message(self.spec.worker_id, message)

    def _unlink(self) -> None:
        if self._linked:
            self._linked = False
            self._loop.remove_reader(self._link)
            self._loop.remove_writer(self._link)
            self._link.close()
