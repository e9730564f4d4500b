"""The master's last events: kept for ``soniqctl events``, and told to whoever follows them."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from soniqd.control.stream import Stream
from soniqd.log.formats import JsonFormat
from soniqd.log.mirror import encode_entry, lost_entry
from soniqd.supervisor.tap import MASTER

KEPT = 1000
_MOST_BYTES = 16 * 1024
"""The longest event. A traceback may be longer; the log has all of it."""
_ALL_BYTES = 2 * KEPT * _MOST_BYTES

Entry = dict[str, Any]


class Ring(logging.Handler):
    """Keeps what the master logs, at level INFO and above whatever the log's own level is.

    ``on_entry`` gets each one with its size.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, on_entry: Callable[[Entry, int], None]) -> None:
        super().__init__()
        self._loop = loop
        self._on_entry = on_entry
        self._thread = threading.get_ident()
        self._format = JsonFormat(None)
        self._entries: deque[tuple[Entry, int]] = deque(maxlen=KEPT)
        self._followers: dict[Stream, Callable[[Entry], bool]] = {}

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Everything that is kept, oldest first."""
        return tuple(entry for entry, _ in self._entries)

    @property
    def followers(self) -> int:
        """How many follow events."""
        return len(self._followers)

    def fill(self, entries: Iterable[Entry]) -> None:
        """Keep what an earlier image of this process has kept, before what came since."""
        since = list(self._entries)
        self._entries.clear()
        self._entries.extend((entry, len(json.dumps(entry))) for entry in entries)
        self._entries.extend(since)

    def attach(self) -> None:
        """Begin to keep."""
        for logger in _loggers():
            for handler in logger.handlers:
                handler.setLevel(max(handler.level, logger.level))
            logger.setLevel(min(logger.level, logging.INFO))
            logger.addHandler(self)

    def detach(self) -> None:
        """Keep nothing more."""
        for logger in _loggers():
            logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            data = encode_entry({"source": MASTER, **self._format.entry(record)}, most_bytes=_MOST_BYTES)
        except Exception:  # noqa: BLE001  the ordinary log says what is wrong with the record
            return
        if threading.get_ident() == self._thread:
            self._keep(data)
        else:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._keep, data)

    def follow(self, wants: Callable[[Entry], bool], *, last: int, follow: bool) -> Stream:
        """Return a stream of the last events that are wanted, and, with ``follow``, of those to come."""
        stream = Stream(lost=_lost_item, on_close=self._unfollow, most_items=2 * KEPT, most_bytes=_ALL_BYTES)
        wanted = [(entry, size) for entry, size in self._entries if wants(entry)]
        for entry, size in wanted[len(wanted) - min(last, len(wanted)) :]:
            stream.offer(entry, size)
        if follow:
            self._followers[stream] = wants
        else:
            stream.end()
        return stream

    def _keep(self, data: bytes) -> None:
        entry, size = json.loads(data), len(data)
        self._entries.append((entry, size))
        for stream, wants in self._followers.items():
            if wants(entry):
                stream.offer(entry, size)
        self._on_entry(entry, size)

    def _unfollow(self, stream: Stream) -> None:
        self._followers.pop(stream, None)


def _loggers() -> tuple[logging.Logger, logging.Logger]:
    return logging.getLogger(), logging.getLogger("soniqd")


def _lost_item(count: int) -> Entry:
    return lost_entry(count) | {"source": MASTER}
