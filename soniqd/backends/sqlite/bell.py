"""Wake-ups between the processes of one host: datagrams to the sockets in a folder beside the database.

Each subscriber binds a socket of its own in the folder; whoever has committed something worth knowing sends each of
them one short message. Nothing ever blocks: a subscriber that does not read (stopped, or busy) has a bounded buffer
in the kernel and, when it looks again, is told that anything may have changed. The socket of a dead process refuses,
and is removed by whoever notices. Messages carry no data: losing one costs time, never a job.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Collection
from functools import lru_cache
from pathlib import Path

from soniqd.backends.values import WakeUp
from soniqd.backends.wakebox import WakeBox

_SUFFIX = ".sock"
_LONGEST_ADDRESS = 107
"""sun_path has 108 bytes, the last one for NUL (unix(7))."""

_MOST_QUEUES = 50
"""A message that would name more says "anything": a datagram stays far below any buffer."""

_MOST_AT_ONCE = 1000
"""Of more messages than so many at once the rest has to wait for the event loop's next turn."""

_MTIME_SETTLED_S = 0.1
"""A folder's mtime is as coarse as the kernel's tick: a listing taken right after a change is not trusted."""

_CHECK_S = 5.0
"""How often a waiting subscriber looks whether its socket is still where others find it."""


def wake_folder(database: Path) -> Path:
    """Name the folder beside the database."""
    return database.with_name(database.name + ".wake")


def make_wake_folder(database: Path) -> Path:
    """Create the folder for whoever may open the database."""
    folder = wake_folder(database)
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        folder.chmod(_mode_like(database, search=True))
    return folder


def _mode_like(database: Path, *, search: bool) -> int:
    """Give the rights of the database file; who may read a folder may also search it."""
    mode = database.stat().st_mode & 0o666
    return mode | (mode & 0o444) >> 2 if search else mode


class Address:
    """Reaches sockets in a folder whose path may be longer than a socket's address can be."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def of(self, name: str) -> str:
        plain = str(self._folder / name)
        return plain if len(os.fsencode(plain)) <= _LONGEST_ADDRESS else f"/proc/self/fd/{self._descriptor}/{name}"

    def close(self) -> None:
        os.close(self._descriptor)


class Bell:
    """Rings for every subscriber. Used by the writer's thread only; ``close`` comes after its end."""

    def __init__(self, database: Path) -> None:
        self._folder = wake_folder(database)
        self._address: Address | None = None
        self._socket: socket.socket | None = None
        self._listed: tuple[int, int] | None = None
        self._names: list[str] = []

    def ring(self, queues: Collection[str], due_at: float | None) -> None:
        """Tell which queues have work, and when a job stored for later is due."""
        if not queues and due_at is None:
            return
        with contextlib.suppress(OSError):
            names = self._subscribers()
            message = _message(queues, due_at) if names else b""
            for name in names:
                self._send(name, message)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._address is not None:
            self._address.close()
        self._socket = self._address = self._listed = None

    def _subscribers(self) -> list[str]:
        try:
            found = self._folder.stat()
        except FileNotFoundError:
            return []
        version = (found.st_ino, found.st_mtime_ns)
        if version != self._listed:
            if self._address is None or self._listed is None or self._listed[0] != found.st_ino:
                self.close()
                self._address = Address(self._folder)
            self._names = [place.name for place in self._folder.iterdir() if place.suffix == _SUFFIX]
            settled = time.time() - found.st_mtime > _MTIME_SETTLED_S
            self._listed = version if settled else (found.st_ino, 0)
        return self._names

    def _send(self, name: str, message: bytes) -> None:
        assert self._address is not None
        address = self._address.of(name)
        try:
            self._sender().sendto(message, address)
        except BlockingIOError:
            self._send_afresh(message, address)
        except ConnectionRefusedError:
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()
        except OSError:
            return

    def _send_afresh(self, message: bytes, address: str) -> None:
        """Try a new socket: what other subscribers have not read counts against the old one's send buffer."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        with contextlib.suppress(OSError):
            self._sender().sendto(message, address)

    def _sender(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        return self._socket


def _message(queues: Collection[str], due_at: float | None) -> bytes:
    if len(queues) > _MOST_QUEUES:
        return b"{}"
    return json.dumps({"queues": sorted(queues), "due_at": due_at}).encode()


class Subscription:
    """Hears the bell. Binds again where its socket has gone, and then says that anything may have changed."""

    def __init__(self, database: Path, *, clock: Callable[[], float], on_close: Callable[[Subscription], None]) -> None:
        self._database = database
        self._clock = clock
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._box = WakeBox()
        self._socket: socket.socket | None = None
        self._place: Path | None = None
        self._closed = False
        self._most_waiting = _kernel_buffer_length()
        self._bind()

    @property
    def live(self) -> bool:
        return self._socket is not None and self._place is not None and self._place.is_socket()

    def hand_to(self, hear: Callable[[WakeUp], None]) -> None:
        self._box.hand_to(hear)

    async def wait(self, timeout_s: float | None = None) -> tuple[WakeUp, ...]:
        was_closed = self._closed
        deadline = None if timeout_s is None else self._loop.time() + timeout_s
        while not self._closed:
            self._rebind_if_lost()
            left_s = _CHECK_S if deadline is None else max(0.0, min(_CHECK_S, deadline - self._loop.time()))
            wake_ups = await self._box.wait(left_s)
            if wake_ups or (deadline is not None and self._loop.time() >= deadline):
                return wake_ups
        # Nothing comes after the wait that close() ends: who goes on waiting all the same must not spin.
        return await self._box.wait(timeout_s) if was_closed else ()

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._unbind()
            self._box.interrupt()
            self._on_close(self)

    def _rebind_if_lost(self) -> None:
        if self.live:
            return
        self._unbind()
        self._bind()
        if self._socket is not None:
            self._box.add()

    def _bind(self) -> None:
        # Without a folder to write to there are no wake-ups, and ``live`` says so.
        with contextlib.suppress(OSError):
            folder = make_wake_folder(self._database)
            self._place = folder / f"{os.getpid()}-{os.urandom(8).hex()}{_SUFFIX}"
            self._socket = _bound(folder, self._place.name, _mode_like(self._database, search=False))
            self._loop.add_reader(self._socket, self._hear)

    def _unbind(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        if self._place is not None:
            with contextlib.suppress(OSError):
                self._place.unlink()
            self._place = None

    def _hear(self) -> None:
        """Take what lies in the socket. What comes first goes on at once: mostly it is all there is."""
        message = self._received()
        if message is None:
            return
        self._note(message)
        message = self._received()
        if message is not None:
            self._hear_more(message)

    def _hear_more(self, message: bytes | None) -> None:
        heard = 1
        with self._box.burst():
            while message is not None:
                self._note(message)
                heard += 1
                message = self._received() if heard < _MOST_AT_ONCE else None
            if heard >= self._most_waiting:
                self._box.add()

    def _received(self) -> bytes | None:
        if self._socket is None:
            return None
        try:
            return self._socket.recv(65536)
        except BlockingIOError:
            return None

    def _note(self, message: bytes) -> None:
        queues, due_at = _told(message)
        if due_at is None and len(queues) == 1:
            self._box.add_only(queues[0])
            return
        for queue in queues:
            self._box.add(queue)
        if due_at is not None:
            self._box.add(due_in_s=max(0.0, due_at - self._clock()))


@lru_cache(_MOST_QUEUES)
def _told(message: bytes) -> tuple[tuple[str | None, ...], float | None]:
    """Read a message: queues, None for any of them, and when a job is due."""
    try:
        told = json.loads(message)
        due_at = told["due_at"]
        return tuple(str(queue) for queue in told["queues"]), None if due_at is None else float(due_at)
    except (ValueError, TypeError, KeyError):
        return (None,), None


def _bound(folder: Path, name: str, mode: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    address = Address(folder)
    try:
        listener.bind(address.of(name))
        (folder / name).chmod(mode)
    except BaseException:
        listener.close()
        raise
    finally:
        address.close()
    return listener


def _kernel_buffer_length() -> int:
    """How many datagrams wait for a reader at most; more were dropped without a trace (unix(7))."""
    try:
        return int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text())
    except (OSError, ValueError):
        return 10
