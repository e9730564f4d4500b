"""Log lines as people read them: time, level, process, job, message."""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from soniqd.cli.wording import printable
from soniqd.log.formats import PRINTED
from soniqd.log.mirror import LINES_LOST

_OFF = "\x1b[0m"
_DIM = "\x1b[2m"
_LEVELS = {"DEBUG": _DIM, "INFO": "\x1b[32m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m"}
# One for each job, so that the eye can follow it: those of the levels are left out.
_JOBS = ("\x1b[36m", "\x1b[35m", "\x1b[34m", "\x1b[96m", "\x1b[95m", "\x1b[94m")
_INDENT = "    | "
_DAEMON = "soniqd"


def wants_colour() -> bool:
    """Tell whether standard output is a terminal that has colours, and its user wants them (no-color.org)."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def render(entry: Mapping[str, Any], *, colour: bool) -> str:
    """Return the lines of an entry, the last newline included; nothing in it can steer a terminal."""
    if entry.get("event") == LINES_LOST:
        text = f"-- {_source(entry)}: {_clean(entry.get('message'))}"
        return _painted(text, _LEVELS["WARNING"], on=colour) + "\n"
    lines = [" ".join(_parts(entry, colour=colour)), *(_INDENT + line for line in _traceback(entry))]
    return "\n".join(lines) + "\n"


def _parts(entry: Mapping[str, Any], *, colour: bool) -> Iterator[str]:
    level = _clean(entry.get("level"))
    yield _painted(_moment(entry.get("ts")), _DIM, on=colour)
    yield _painted(f"{level:<7}", _LEVELS.get(level, ""), on=colour)
    yield _source(entry)
    if (job_id := entry.get("job_id")) is not None:
        job = _clean(job_id)
        yield _painted(job, _JOBS[zlib.crc32(job.encode(errors="replace")) % len(_JOBS)], on=colour)
    yield _message(entry)


def _source(entry: Mapping[str, Any]) -> str:
    """Name the process that said it. In an event of the daemon slot and pid are of the process it speaks of."""
    if entry.get("source") == _DAEMON:
        return _DAEMON
    return f"{_clean(entry.get('slot'))}[{_clean(entry.get('pid'))}]"


def _message(entry: Mapping[str, Any]) -> str:
    message = _clean(entry.get("message"))
    if entry.get("goes_on") is True:
        message += " [...]"
    speaker = entry.get("stream") if entry.get("event") == PRINTED else entry.get("logger")
    return message if speaker is None else f"{_clean(speaker)}: {message}"


def _traceback(entry: Mapping[str, Any]) -> Iterator[str]:
    trace = entry.get("traceback")
    return map(_clean, trace.rstrip("\n").split("\n")) if isinstance(trace, str) else iter(())


def _moment(value: object) -> str:
    """Write an instant in local time, to the millisecond, as the log does."""
    try:
        return datetime.fromisoformat(str(value)).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    except (ValueError, OverflowError):
        return _clean(value)


def _clean(value: object) -> str:
    return printable(value.replace("\t", "    ") if isinstance(value, str) else value)


def _painted(text: str, code: str, *, on: bool) -> str:
    return f"{code}{text}{_OFF}" if on and code else text
