"""The text that is stored about a failed attempt."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from types import TracebackType

from soniqd.log.redact import redact

MAX_MESSAGE = 2_000
MAX_TEXT = 8_000
_MAX_FRAMES = 12
_MAX_CAUSES = 5
_OWN_MODULES = ("soniqd.worker.", "soniqd.queue.hooks")


class JobTimeoutError(TimeoutError):
    """A handler ran for longer than its job may: told apart by its type from a TimeoutError of the handler's own."""


def describe_error(error: BaseException) -> str:
    """Return type, message and a short traceback: bounded, without passwords, and storable by every database."""
    lines: list[str] = []
    for index, link in enumerate(_causes(error)):
        lines.append(("caused by " if index else "") + summarize_error(link))
        lines += _frames(link.__traceback__)
    return _bounded(_storable("\n".join(lines)), MAX_TEXT)


def summarize_error(error: BaseException) -> str:
    """Return type and message."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001  the exception class is the application's
        message = f"(its message cannot be read: {type(broken).__name__})"
    return _bounded(_storable(redact(f"{name}: {message}" if message else name)), MAX_MESSAGE)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen and len(seen) < _MAX_CAUSES:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _frames(trace: TracebackType | None) -> list[str]:
    frames = [
        f'  File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_name}'
        for frame, line in traceback.walk_tb(trace)
        if not str(frame.f_globals.get("__name__", "")).startswith(_OWN_MODULES)
    ]
    if len(frames) > _MAX_FRAMES:
        half = _MAX_FRAMES // 2
        frames[half:-half] = [f"  ... {len(frames) - _MAX_FRAMES} more"]
    return frames


def _storable(text: str) -> str:
    """Escape what PostgreSQL's text refuses: NUL and lone surrogates (PostgreSQL manual, section 8.3)."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()


def _bounded(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[: limit - 40]}... ({len(text)} characters)"
