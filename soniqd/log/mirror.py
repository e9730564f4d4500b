"""A process's log lines, copied for whoever follows them right now.

The copies leave as datagrams over the *tap*, a socket that all children of a master share and that the master reads
(:mod:`soniqd.supervisor.tap`). A :class:`Mirror` is attached to the loggers while somebody follows and to none
otherwise, so that it costs nothing then. It never waits: where the tap is full lines are dropped, counted, and told as
soon as there is room.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import time
from collections.abc import Collection, Mapping
from typing import Any

from soniqd.log import printed
from soniqd.log.formats import JsonFormat, utc_text
from soniqd.log.redact import redact

MOST_BYTES = 64 * 1024
"""The largest datagram. Linux takes them up to net.core.wmem_default, usually 208 KiB (socket(7))."""
LINES_LOST = "lines_lost"
"""The event of an entry that stands for lines which could not be copied; its field ``lost`` says how many."""

_NOBODY_THERE = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN, errno.EPIPE, errno.EBADF})
_LEAST = 200
_ESSENTIAL = ("ts", "level", "event", "message", "source", "slot", "pid", "job_id", "logger", "stream", "traceback")


class Mirror(logging.Handler):
    """Copies what is logged here, by anybody. The socket stays the caller's."""

    def __init__(self, tap: socket.socket, *, slot: str) -> None:
        super().__init__()
        self._tap = tap
        self._slot = slot
        self._format = JsonFormat(slot)
        self._jobs: Collection[str] | None = None
        self._lost = 0
        self._on = False

    def follow(self, level: int, *, jobs: Collection[str] | None = None) -> None:
        """Copy from now on what has this level at least and is of these jobs, or of any."""
        self.setLevel(level)
        self._jobs = jobs
        self._on = True
        for logger in _loggers():
            logger.addHandler(self)
        printed.add_outlet(self)

    def stop(self) -> None:
        """Copy nothing more; what was lost is told, if there is room."""
        if self._on:
            self.tell_lost()
        self._on = False
        self._lost = 0
        for logger in _loggers():
            logger.removeHandler(self)
        printed.remove_outlet(self)

    def emit(self, record: logging.LogRecord) -> None:
        if not self._on or record.levelno < self.level:
            return
        try:
            entry = self._format.entry(record)
        except Exception:  # noqa: BLE001  the ordinary log says what is wrong with the record
            return
        if self._jobs is None or entry.get("job_id") in self._jobs:
            if self._lost:
                self.tell_lost()
            if not self._send(encode_entry(entry)):
                self._lost += 1

    def tell_lost(self) -> None:
        """Say how many lines were lost, if any, and if there is room to say it."""
        self.acquire()
        try:
            if self._lost and self._send(encode_entry(lost_entry(self._lost, slot=self._slot))):
                self._lost = 0
        finally:
            self.release()

    def _send(self, data: bytes) -> bool:
        try:
            self._tap.send(data, socket.MSG_DONTWAIT)
        except OSError as error:
            if error.errno in _NOBODY_THERE:
                self._on = False
            return False
        return True


def lost_entry(count: int, *, slot: str | None = None) -> dict[str, Any]:
    """Stand for lines that were lost between a process and its follower."""
    return {
        "ts": utc_text(time.time()),
        "level": "WARNING",
        "event": LINES_LOST,
        "message": f"{count} {'line was' if count == 1 else 'lines were'} too fast to follow and left out here",
        **({} if slot is None else {"slot": slot}),
        "pid": os.getpid(),
        "lost": count,
    }


def encode_entry(entry: Mapping[str, Any], *, most_bytes: int = MOST_BYTES) -> bytes:
    """Give an entry its JSON, cutting what is long about it where that would be too much."""
    data, longest = _dump(entry), most_bytes
    while len(data) > most_bytes:
        longest //= 2
        keys = entry if longest > _LEAST else [key for key in _ESSENTIAL if key in entry]
        data = _dump({key: _shortened(entry[key], longest) for key in keys})
    return data


def _dump(entry: Mapping[str, Any]) -> bytes:
    return _to_json(entry).encode()


def _shortened(value: Any, longest: int) -> Any:
    """Keep the beginning of what is long, and its end, where a traceback names the error."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else str(value)
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[-half:]}"


_to_json = json.JSONEncoder(separators=(",", ":"), default=lambda value: redact(str(value))).encode


def _loggers() -> tuple[logging.Logger, logging.Logger]:
    return logging.getLogger(), logging.getLogger("soniqd")
