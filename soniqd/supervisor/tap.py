"""Log lines on their way from this host's processes to whoever follows them.

While somebody follows, the children concerned copy what they log to the tap, a datagram socket whose far end all of
them share; the master reads it, and gives each follower what it wants. Nobody waits for anybody: a child drops what
the tap does not take, the master what a follower does not take, and both say how much. The master reads in small
portions with pauses between them, so that a flood of lines takes half of its time at most.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from soniqd.control.link import Follow
from soniqd.control.stream import Stream
from soniqd.log.mirror import MOST_BYTES, lost_entry
from soniqd.model.child import ChildSpec
from soniqd.supervisor.child import ChildProcess

MASTER = "soniqd"
"""What the master's own lines have as ``source``; their ``slot`` is that of the child they speak of, if any."""

_MOST_UNREAD = 10_000
_SEND_BUFFER = 1024 * 1024  # what the kernel allows of it (net.core.wmem_max), for all children together
_PORTION = 50
_PAUSE_S = 0.002
_LEVELS = logging.getLevelNamesMapping()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a follower wants to see; None is everything."""

    level: int = logging.NOTSET
    job: str | None = None
    group: str | None = None
    slot: str | None = None

    def concerns(self, spec: ChildSpec) -> bool:
        """Tell whether a child may have something to tell."""
        return self.group in (None, spec.group) and self.slot in (None, spec.slot)

    def matches(self, entry: dict[str, Any]) -> bool:
        """Tell whether this is one of its lines."""
        slot = str(entry.get("slot"))
        return (
            _LEVELS.get(str(entry.get("level")), logging.INFO) >= self.level
            and self.job in (None, entry.get("job_id"))
            and self.slot in (None, slot)
            and self.group in (None, slot.partition("/")[0])
        )


class Tap:
    """Both ends of the tap, and the followers. ``children`` are those that live now."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, children: Callable[[], Iterable[ChildProcess]]) -> None:
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.near.setblocking(False)
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._loop = loop
        self._children = children
        self._followers: dict[Stream, Wanted] = {}
        self._told: WeakKeyDictionary[ChildProcess, Follow] = WeakKeyDictionary()
        self._pause: asyncio.TimerHandle | None = None

    def replace(self, near: socket.socket, far: socket.socket) -> None:
        """Go on with the ends that children of an earlier image have; to be called before anybody follows."""
        self.close()
        self.near, self.far = near, far
        self.near.setblocking(False)

    @property
    def followers(self) -> int:
        """How many follow log lines."""
        return len(self._followers)

    def follow(self, wanted: Wanted) -> Stream:
        """Return a stream of lines from now on."""
        if not self._followers:
            self._drain()
            self._loop.add_reader(self.near, self._read)
        stream = Stream(lost=_lost_item, on_close=self._unfollow)
        self._followers[stream] = wanted
        self._tell_children()
        return stream

    def welcome(self, child: ChildProcess, *, resumed: bool = False) -> None:
        """Let a new child copy what is followed; one of an earlier image may have been told to already."""
        order = self._order(child.spec)
        if resumed or order.level is not None:
            child.send(order)
        self._told[child] = order

    def offer(self, entry: dict[str, Any], size: int) -> None:
        """Give an entry to those who want it."""
        for stream, wanted in self._followers.items():
            if wanted.matches(entry):
                stream.offer(entry, size)

    def close(self) -> None:
        """Give the descriptors back; who follows gets no more lines of children."""
        self._stop_reading()
        self.near.close()
        self.far.close()

    def _unfollow(self, stream: Stream) -> None:
        del self._followers[stream]
        self._tell_children()
        if not self._followers:
            self._stop_reading()

    def _tell_children(self) -> None:
        for child in self._children():
            order = self._order(child.spec)
            if self._told.get(child, _NOTHING) != order:
                child.send(order)
                self._told[child] = order

    def _order(self, spec: ChildSpec) -> Follow:
        """Return what serves all followers of a child; each gets its own part of that."""
        concerned = [wanted for wanted in self._followers.values() if wanted.concerns(spec)]
        if not concerned:
            return _NOTHING
        jobs = {wanted.job for wanted in concerned if wanted.job is not None}
        everything = any(wanted.job is None for wanted in concerned)
        return Follow(min(wanted.level for wanted in concerned), None if everything else tuple(sorted(jobs)))

    def _read(self) -> None:
        for _ in range(_PORTION):
            try:
                data = self.near.recv(MOST_BYTES)
            except OSError:
                return
            self._take(data)
        self._loop.remove_reader(self.near)
        self._pause = self._loop.call_later(_PAUSE_S, self._loop.add_reader, self.near, self._read)

    def _take(self, data: bytes) -> None:
        try:
            entry = json.loads(data)
        except (ValueError, RecursionError):  # whatever jobs' code may have sent there
            return
        if isinstance(entry, dict):
            self.offer(entry, len(data))

    def _drain(self) -> None:
        """Drop what was left unread when the last follower went."""
        with suppress(OSError):
            for _ in range(_MOST_UNREAD):
                self.near.recv(1)

    def _stop_reading(self) -> None:
        if self.near.fileno() >= 0:
            self._loop.remove_reader(self.near)
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None


_NOTHING = Follow(level=None)


def _lost_item(count: int) -> dict[str, Any]:
    return lost_entry(count) | {"source": MASTER}
