"""One record, three renderings: text for people, json for programs, journald for systemd.

Whatever a job writes into a message stays inside its own line: control characters are escaped, and the lines of a
traceback are indented. Every rendering goes through :func:`soniqd.log.redact.redact` as a last net.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol

from soniqd.log.context import current_job_id
from soniqd.log.redact import redact

_RECORD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "event", "fields", "taskName"}
_RESERVED = ("ts", "level", "event", "message")

# What a terminal, a pager or a line-based reader could take for something else than a part of this line: C0 and C1
# control characters, and the line breaks that str.splitlines() knows beside them.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_ESCAPES |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\t", 0x2028: "\\u2028", 0x2029: "\\u2029"}

_COLOURS = {
    logging.DEBUG: "\x1b[2m",
    logging.INFO: "\x1b[32m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[1;31m",
}
_COLOUR_OFF = "\x1b[0m"
_INDENT = "    | "

PRINTED = "printed"
"""The event of a line that a job printed, which its logger is named after: stdout or stderr. A line that is cut has
the field ``goes_on``."""


class LineFormat(Protocol):
    """Renders a record as what one write puts out, the last newline included."""

    def __call__(self, record: logging.LogRecord) -> str: ...


class TextFormat:
    """``2026-11-22 14:40:01.123 INFO    default/2[4711] message``, coloured for a terminal."""

    def __init__(self, name: str, *, colour: bool = False) -> None:
        self._name = name
        self._colour = colour

    def __call__(self, record: logging.LogRecord) -> str:
        moment = _local_second(int(record.created))
        level = f"{record.levelname:<8}"
        if self._colour:
            level = f"{_COLOURS.get(_base_level(record.levelno), '')}{level}{_COLOUR_OFF}"
        head = f"{moment}.{int(record.msecs):03d} {level}{self._name}[{record.process or os.getpid()}] "
        return "\n".join([head + _sentence(record), *(_INDENT + line for line in _traceback_lines(record))]) + "\n"


class JournaldFormat:
    """``<6>default/2: message``: sd-daemon(3) priorities; the journal adds the time and the pid itself."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, record: logging.LogRecord) -> str:
        prefix = f"<{_PRIORITIES[_base_level(record.levelno)]}>"
        lines = [f"{self._name}: {_sentence(record)}", *(_INDENT + line for line in _traceback_lines(record))]
        return "".join(f"{prefix}{line}\n" for line in lines)


class JsonFormat:
    """One object a line: ts, level, event, message, then what is known of slot, pid, job_id and the event's fields."""

    def __init__(self, slot: str | None) -> None:
        self._slot = slot

    def __call__(self, record: logging.LogRecord) -> str:
        return _to_json(self.entry(record)) + "\n"

    def entry(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return what a line says, as plain JSON values."""
        entry: dict[str, Any] = {
            "ts": utc_text(record.created),
            "level": record.levelname,
            "event": getattr(record, "event", "log"),
            "message": redact(record.getMessage()),
        }
        if self._slot is not None:
            entry["slot"] = self._slot
        entry["pid"] = record.process or os.getpid()
        if (job_id := current_job_id()) is not None:
            entry["job_id"] = job_id
        if "event" not in vars(record):
            entry["logger"] = record.name
        for key, value in _event_fields(record).items():
            entry[key + "_" if key in _RESERVED else key] = _plain(value)
        for key, value in _extras(record):  # what soniqd says of a line is not a caller's to change
            entry[key + "_" if key in entry or key in _RESERVED else key] = _plain(value)
        if trace := "\n".join(_raw_traceback(record)):
            entry["traceback"] = redact(trace)
        return entry


def utc_text(seconds: float) -> str:
    """Write an instant as in ``2026-11-22T14:40:01.123456Z``."""
    whole, micros = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{_utc_second(whole)}.{micros:06d}Z"


@lru_cache(maxsize=1)
def _utc_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=1)
def _local_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


_to_json = json.JSONEncoder(default=lambda value: redact(str(value))).encode

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def _base_level(level: int) -> int:
    """Round a level down to one of the five that have a name: libraries use levels in between."""
    return max((base for base in _PRIORITIES if base <= level), default=logging.DEBUG)


def _sentence(record: logging.LogRecord) -> str:
    message = redact(record.getMessage())
    if getattr(record, "event", PRINTED) == PRINTED:
        message = f"{record.name}: {message}"
    if _event_fields(record).get("goes_on") is True:
        message += " [...]"
    if (job_id := current_job_id()) is not None and job_id not in message:
        message = f"{message} (job {job_id})"
    return message.translate(_ESCAPES)


def _traceback_lines(record: logging.LogRecord) -> Iterator[str]:
    for chunk in _raw_traceback(record):
        for line in redact(chunk).split("\n"):
            yield line.translate(_ESCAPES)


def _raw_traceback(record: logging.LogRecord) -> Iterator[str]:
    if record.exc_info and record.exc_info[1] is not None:
        yield "".join(traceback.format_exception(record.exc_info[1])).rstrip("\n")
    elif record.exc_text:
        yield record.exc_text
    elif isinstance(trace := _event_fields(record).get("traceback"), str):
        yield trace.rstrip("\n")
    if record.stack_info:
        yield record.stack_info


def _extras(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    """Yield what a caller passed as ``extra``."""
    for key, value in vars(record).items():
        if key not in _RECORD_ATTRIBUTES:
            yield key, value


def _event_fields(record: logging.LogRecord) -> Mapping[str, Any]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, Mapping) else {}


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)  # JSON has no NaN and no infinity
        case str():
            return redact(value)
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case _:
            return redact(str(value))
