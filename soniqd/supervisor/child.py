"""The master's end of one child: its link, its box, its pid."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from soniqd.control import link
from soniqd.control.fork import ChildDescriptors
from soniqd.errors import ControlError
from soniqd.model.child import ChildSpec, ExitCause
from soniqd.supervisor.box import Box, Remains
from soniqd.supervisor.reaper import Reaper

_MAX_UNSENT = 64 * 1024
_LAST_READS = 64

OnMessage = Callable[[str, link.Message], None]
OnExit = Callable[[str, ExitCause], None]


@dataclass(frozen=True, slots=True)
class ChildHandover:
    """What the next image of the master needs to go on with a child; ``link_fd`` None: it has hung up already."""

    spec: ChildSpec
    pid: int
    link_fd: int | None
    memory_fd: int
    blackbox_fd: int
    state: link.State
    said_goodbye: bool
    farewell: str
    hung: bool
    requested_s: float
    received: bytes
    unsent: bytes


@dataclass(frozen=True, slots=True)
class _Ends:
    """What master and child have of each other. ``far_link`` None: the child has it."""

    link: socket.socket
    far_link: socket.socket | None
    box: Box

    @classmethod
    def create(cls, spec: ChildSpec) -> _Ends:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        near.setblocking(False)
        try:
            return cls(near, far, Box.create(spec.concurrency))
        except OSError:
            near.close()
            far.close()
            raise

    @classmethod
    def resume(cls, earlier: ChildHandover) -> _Ends:
        near = socket.socket(fileno=earlier.link_fd) if earlier.link_fd is not None else socket.socket(socket.AF_UNIX)
        near.setblocking(False)
        return cls(near, None, Box(earlier.memory_fd, earlier.blackbox_fd))


class ChildProcess:
    """One child. ``tap_fd`` is the children's end of the tap; it stays the caller's."""

    def __init__(
        self,
        spec: ChildSpec,
        loop: asyncio.AbstractEventLoop,
        reaper: Reaper,
        *,
        tap_fd: int,
        ends: _Ends | None = None,
    ) -> None:
        self.spec = spec
        self.pid: int | None = None
        self.state = link.State(phase="starting")
        self.said_goodbye = False
        self.farewell = ""
        self.hung = False
        self.remains = Remains()
        self.requested_s = time.monotonic()
        self._loop = loop
        self._reaper = reaper
        ends = ends or _Ends.create(spec)
        self._link, self.far_link, self.box = ends.link, ends.far_link, ends.box
        self._tap_fd = tap_fd
        self._received = b""
        self._unsent = b""
        self._stuck = False
        self._on_message: OnMessage | None = None
        self._linked = True

    @classmethod
    def resume(
        cls, earlier: ChildHandover, loop: asyncio.AbstractEventLoop, reaper: Reaper, *, tap_fd: int
    ) -> ChildProcess:
        """Go on with what an earlier image of the master described; to be adopted again."""
        child = cls(earlier.spec, loop, reaper, tap_fd=tap_fd, ends=_Ends.resume(earlier))
        child.pid = earlier.pid
        child.state, child.requested_s, child.hung = earlier.state, earlier.requested_s, earlier.hung
        child.said_goodbye, child.farewell = earlier.said_goodbye, earlier.farewell
        child._received, child._unsent = earlier.received, earlier.unsent
        if earlier.link_fd is None:
            child._unlink()
        return child

    def hand_over(self) -> ChildHandover:
        """Describe a child that was adopted."""
        assert self.pid is not None, "only a child that exists can be handed over"
        return ChildHandover(
            spec=self.spec,
            pid=self.pid,
            link_fd=self._link.fileno() if self._linked else None,
            memory_fd=self.box.memory_fd,
            blackbox_fd=self.box.blackbox_fd,
            state=self.state,
            said_goodbye=self.said_goodbye,
            farewell=self.farewell,
            hung=self.hung,
            requested_s=self.requested_s,
            received=self._received,
            unsent=self._unsent,
        )

    def far_ends(self) -> ChildDescriptors:
        """Return what the child is to have."""
        assert self.far_link is not None, "the child has its end already"
        return ChildDescriptors(self.far_link.fileno(), self.box.memory_fd, self.box.blackbox_fd, self._tap_fd)

    def far_ends_sent(self) -> None:
        """Close this process's copy of the child's end of the link: else the child's end of file would never come."""
        if self.far_link is not None:
            self.far_link.close()

    def adopt(self, pid: int, *, on_message: OnMessage, on_exit: OnExit) -> None:
        """Begin to watch and to listen. ``on_exit`` is called once, after every message that the child has sent."""
        self.pid = pid
        self._on_message = on_message
        if self._linked:
            self._loop.add_reader(self._link, self._read)
            self._flush()
        self._reaper.watch(pid, lambda cause: self._exited(cause, on_exit))

    @property
    def tick(self) -> int:
        """The child's tick counter."""
        return self.box.memory.tick

    def send(self, message: link.Message) -> None:
        """Send without ever waiting. A child that reads nothing misses wake-ups past a bound, but never an order."""
        if not self._linked:
            return
        if len(self._unsent) < _MAX_UNSENT or not isinstance(message, link.Wake):
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
        self.box.close()

    def _exited(self, cause: ExitCause, on_exit: OnExit) -> None:
        try:
            for _ in range(_LAST_READS):
                if not self._read():
                    break
            self.remains = self.box.remains()
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
            self._stuck = True
            self._loop.add_writer(self._link, self._flush)
        elif self._stuck:
            self._stuck = False
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
            if isinstance(message, link.Leaving):
                self.said_goodbye, self.farewell = True, message.reason
            if self._on_message is not None:
                self._on_message(self.spec.worker_id, message)

    def _unlink(self) -> None:
        if self._linked:
            self._linked = False
            self._loop.remove_reader(self._link)
            self._loop.remove_writer(self._link)
            self._link.close()
