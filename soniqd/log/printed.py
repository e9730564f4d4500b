"""What jobs print, as log lines of the jobs that print it.

:func:`prepare` replaces ``sys.stdout`` and ``sys.stderr`` before an application is imported, so that streams which it
keeps (a ``logging.StreamHandler``, ``from sys import stdout``) are ours, too. Until :func:`capture` they pass on what
they get. From then on each line becomes one log record of the job in whose context it was written.

The text layer is an ordinary ``io.TextIOWrapper``: ``encoding``, ``errors``, ``reconfigure()``, ``buffer`` and what
else libraries expect of ``sys.stdout`` is there, and all of it, text or bytes, ends in one place (:class:`LineWriter`).
``fileno()`` is the descriptor itself, for programs that jobs start.

Lines are put together for each job and each thread, so that neither jobs of one event loop nor threads mix theirs. A
line ends with its newline, or with its job (``flush()`` does not end it). As on a terminal, a carriage return starts
it again: of a progress bar its last state is kept. What is longer than :data:`MOST_BYTES` is cut into records that say
so; bytes that are no text are escaped.

Not seen, and written to the descriptor as ever: what is written without these two streams, by programs that jobs
start, by libraries in C, by sub-interpreters, by ``os.write``. A process forked by a job (``multiprocessing``) has the
streams, and its lines are the job's.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING, TextIO

from soniqd.log.context import current_job_id, job_id_var
from soniqd.log.formats import PRINTED

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

MOST_BYTES = 8 * 1024
"""The longest line in one piece. Services that read logs have bounds of their own; docker's and the journal's are 16
and 48 KiB, of rendered text."""

_Writer = tuple[str | None, int]
"""Job and thread."""


class LineWriter(io.BufferedIOBase):
    """The binary layer of a captured stream: puts lines together and logs them.

    It takes no lock: a lock that is held during a fork, or taken by a signal handler, would stop a job for ever. Each
    of its operations on ``begun`` concerns a key of the current thread only, or is one step.
    """

    mode = "wb"

    def __init__(self, stream: str, fd: int) -> None:
        self.name = f"<{stream}>"
        self._stream = stream
        self._fd = fd
        self.begun: dict[_Writer, bytearray] = {}
        """Lines without their end."""
        self._forked = False
        self.outlets: tuple[logging.Handler, ...] = ()

    def fileno(self) -> int:
        return self._fd

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        chunk = data if isinstance(data, bytes) else bytes(data)
        if not self.outlets:
            self._pass_on(chunk)
            return len(chunk)
        writer = (current_job_id(), get_ident())
        if chunk == b"\n":  # the second half of most calls of print()
            self._log_line(bytes(self.begun.pop(writer, b"")))
            return 1
        end = chunk.rfind(b"\n") + 1
        if end:
            begun = self.begun.pop(writer, b"")
            for line in _lines(begun + chunk[:end] if begun else chunk, end + len(begun)):
                self._log_line(line)
        if end < len(chunk):
            self._begin(writer, chunk[end:])
        return len(chunk)

    def flush(self) -> None:
        if self._forked:  # the process that a job has forked may end any time, without a word to us
            self.end_lines()

    def close(self) -> None:
        """Stay open: who wraps and drops it must not silence the process."""

    def end_job(self, job_id: str) -> None:
        """Log what a job has begun and not ended."""
        for writer in [writer for writer in tuple(self.begun) if writer[0] == job_id]:
            self._end_line(writer)

    def end_lines(self) -> None:
        """Log what anybody has begun and not ended."""
        for writer in tuple(self.begun):
            self._end_line(writer)

    def after_fork(self) -> None:
        """Leave to the parent what it has begun."""
        self.begun.clear()
        self._forked = True

    def start(self, *outlets: logging.Handler) -> None:
        """Log from now on; without outlets, pass on."""
        self.outlets = outlets
        self._forked = False

    def _pass_on(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def _begin(self, writer: _Writer, data: bytes) -> None:
        begun = self.begun.get(writer)
        if begun is None:
            begun = self.begun[writer] = bytearray(data)
        else:
            begun += data
        if b"\r" in data:
            del begun[: begun.rfind(b"\r", 0, -1) + 1]
        while len(begun) > MOST_BYTES:
            end = _cut(begun)
            self._log(bytes(begun[:end]), goes_on=True)
            del begun[:end]

    def _end_line(self, writer: _Writer) -> None:
        begun = self.begun.pop(writer, None)
        if begun:
            token = job_id_var.set(writer[0])
            try:
                self._log_line(bytes(begun))
            finally:
                job_id_var.reset(token)

    def _log_line(self, line: bytes) -> None:
        if b"\r" in line:
            line = line.rstrip(b"\r").rpartition(b"\r")[2]
        while len(line) > MOST_BYTES:
            end = _cut(line)
            self._log(line[:end], goes_on=True)
            line = line[end:]
        self._log(line)

    def _log(self, text: bytes, *, goes_on: bool = False) -> None:
        record = _PrintedLine(self._stream, text.decode("utf-8", "backslashreplace"), goes_on=goes_on)
        for outlet in self.outlets:
            outlet.handle(record)


class _PrintedLine(logging.LogRecord):
    """A record with what our own handlers look at, and nothing else: to find out the rest takes longer than print()."""

    def __init__(self, stream: str, text: str, *, goes_on: bool) -> None:  # not LogRecord's, on purpose
        self.name = stream
        self.msg = text
        self.args = None
        self.levelno = logging.INFO
        self.levelname = "INFO"
        self.pathname = ""
        self.lineno = 0
        self.exc_info = None
        self.exc_text = None
        self.stack_info = None
        self.created = time.time()
        self.msecs = self.created % 1 * 1000
        self.process = os.getpid()
        self.event = PRINTED
        self.fields = {"stream": stream, "goes_on": True} if goes_on else {"stream": stream}


def prepare() -> None:
    """Replace ``sys.stdout`` and ``sys.stderr``; they pass on what they get."""
    if _writers:
        return
    for stream in ("stdout", "stderr"):
        original: TextIO | None = getattr(sys, stream)
        if original is None:
            continue
        with suppress(OSError, ValueError):  # closed, or no file: nothing to replace
            writer = LineWriter(stream, original.fileno())
            original.flush()
            wrapper = io.TextIOWrapper(
                writer, encoding="utf-8", errors="backslashreplace", newline="", write_through=True
            )
            setattr(sys, stream, wrapper)
            _writers.append(writer)
    os.register_at_fork(after_in_child=_after_fork)


def capture(*outlets: logging.Handler) -> None:
    """Give each line to these handlers, whatever their levels; without any, pass on."""
    for writer in _writers:
        writer.start(*outlets)


def add_outlet(outlet: logging.Handler) -> None:
    """Give each line to one handler more, if lines are captured at all."""
    for writer in _writers:
        if writer.outlets and outlet not in writer.outlets:
            writer.outlets = (*writer.outlets, outlet)


def remove_outlet(outlet: logging.Handler) -> None:
    """Give that handler no more lines."""
    for writer in _writers:
        writer.outlets = tuple(other for other in writer.outlets if other is not outlet)


def end_job(job_id: str) -> None:
    """Log what a job has printed without a newline at its end."""
    for writer in _writers:
        if writer.begun:
            writer.end_job(job_id)


def end_lines() -> None:
    """Log what was printed without a newline at its end by anybody, since the process ends."""
    for writer in _writers:
        writer.end_lines()


_writers: list[LineWriter] = []


def _after_fork() -> None:
    for writer in _writers:
        writer.after_fork()


def _lines(data: bytes | bytearray, end: int) -> Iterator[bytes]:
    """Yield what is between newlines, the last of which is just before ``end``."""
    start = 0
    while start < end:
        newline = data.index(b"\n", start)
        yield bytes(data[start:newline])
        start = newline + 1


def _cut(data: bytes | bytearray) -> int:
    """Return where to cut so that no character of UTF-8 is torn: before one of its first bytes (RFC 3629)."""
    for end in range(MOST_BYTES, MOST_BYTES - 4, -1):
        if data[end] & 0xC0 != 0x80:
            return end
    return MOST_BYTES
