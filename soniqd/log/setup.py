"""Where log lines go: one handler for soniqd's own events and for every logger of the jobs' code."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import stat
import sys
import time
from collections.abc import Mapping
from typing import Literal

from soniqd.log.formats import JournaldFormat, JsonFormat, LineFormat, TextFormat

LogFormat = Literal["auto", "text", "json", "journald"]

_STDERR = 2
_PATIENCE_S = 0.1
"""How long a line waits for a full stderr, the first time. Longer would let a stuck reader stop the daemon."""


class LineHandler(logging.Handler):
    """Writes each record with one write(2), and neither waits for long nor raises into the code that logs.

    Processes that share a pipe, a terminal or a file therefore do not mix their lines (a pipe promises it up to
    PIPE_BUF bytes, see pipe(7)). A line that cannot be written is lost and counted; the next one that can be says so.

    A stderr whose reader stands still (a paused terminal, a full pipe) blocks whoever writes, so each write is one that
    poll(2) has promised to take. Making it non-blocking would be simpler, and would break what jobs print to it.
    """

    def __init__(self, render: LineFormat, *, fd: int = _STDERR) -> None:
        super().__init__()
        self.render = render
        self._fd = fd
        self._at_once = _most_at_once(fd)
        self._lost = 0
        self._torn = False

    def emit(self, record: logging.LogRecord) -> None:
        line = self._rendered(record)
        if self._lost:
            line = self._rendered(_complaint(f"{self._lost} log lines could not be written and are lost")) + line
        if self._torn:
            line = "\n" + line
        self._lost = 0 if self._write(line.encode(errors="backslashreplace")) else self._lost + 1

    def _rendered(self, record: logging.LogRecord) -> str:
        try:
            return self.render(record)
        except Exception as error:  # noqa: BLE001  a job's broken logging call or __str__ must not end the job
            where = f"{record.pathname}:{record.lineno}"
            return self.render(_complaint(f"cannot format the log record from {where}: {type(error).__name__}"))

    def _write(self, data: bytes) -> bool:
        deadline = time.monotonic() + (0.0 if self._lost else _PATIENCE_S)
        while data:
            if not self._takes_more(deadline):
                return False
            try:
                data = data[os.write(self._fd, data[: self._at_once]) :]
                self._torn = bool(data)
            except BlockingIOError:  # another process was faster
                if time.monotonic() >= deadline:
                    return False
            except OSError:  # EPIPE, ENOSPC, EIO, EBADF: nobody is left to tell
                return False
        return True

    def _takes_more(self, deadline: float) -> bool:
        # One of its own: a fork by a job may copy one that another thread waits with, which is then in use for ever.
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _most_at_once(fd: int) -> int:
    """How much a descriptor takes without blocking once poll(2) calls it ready (see select.PIPE_BUF)."""
    with contextlib.suppress(OSError):
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            return select.PIPE_BUF
    return sys.maxsize


_handler: LineHandler | None = None


def configure_logging(level: str, format: LogFormat, *, slot: str | None = None) -> LineHandler:  # noqa: A002  its name in the settings
    """Send soniqd's events and all other loggers to stderr; ``slot`` names this process in each line.

    Call it before user code is imported, and again in each process once its slot is known. What user code did to the
    root logger in between stays as it is; soniqd's own events keep their handler whatever it did.
    """
    global _handler  # noqa: PLW0603  logging's own configuration is one per process, too
    render = make_format(format, slot=slot)
    root, own = logging.getLogger(), logging.getLogger("soniqd")
    if _handler is None:
        _handler = LineHandler(render)
        root.handlers[:] = [_handler]
        root.setLevel(level)
        logging.captureWarnings(capture=True)
    _handler.render = render
    own.handlers[:] = [_handler]
    own.propagate = False
    own.disabled = False  # dictConfig() of user code disables loggers that it does not know
    own.setLevel(level)
    if _handler in root.handlers:
        root.setLevel(level)
    return _handler


def change_logging(level: str, format: LogFormat) -> None:  # noqa: A002  its name in the settings
    """Give the log that ``configure_logging`` has set up another level and form; whoever else listens goes on to."""
    if _handler is None:
        return
    _handler.render = make_format(format, slot=None)
    _handler.setLevel(level)
    for logger in (logging.getLogger(), logging.getLogger("soniqd")):
        logger.setLevel(min(_handler.level, logging.INFO))


def make_format(format: LogFormat, *, slot: str | None, environ: Mapping[str, str] = os.environ) -> LineFormat:  # noqa: A002
    """Choose the rendering for stderr."""
    name = slot or "soniqd"
    match format:
        case "auto":
            return make_format("journald" if _stderr_is_the_journal(environ) else "text", slot=slot, environ=environ)
        case "json":
            return JsonFormat(slot)
        case "journald":
            return JournaldFormat(name)
        case "text":
            return TextFormat(name, colour=_wants_colour(environ))


def _stderr_is_the_journal(environ: Mapping[str, str]) -> bool:
    """Compare $JOURNAL_STREAM with stderr, as systemd.exec(5) tells to: the variable alone is inherited too widely."""
    with contextlib.suppress(OSError):
        status = os.fstat(_STDERR)
        return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
    return False


def _wants_colour(environ: Mapping[str, str]) -> bool:
    return os.isatty(_STDERR) and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def _complaint(message: str) -> logging.LogRecord:
    return logging.LogRecord("soniqd.log", logging.WARNING, __file__, 0, "%s", (message,), None)
