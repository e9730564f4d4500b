"""Wait for something to become true, with a deadline instead of a fixed sleep."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.05


@overload
async def eventually(predicate: Callable[[], Awaitable[T]], *, timeout_s: float = ..., message: str = ...) -> T: ...
@overload
async def eventually(predicate: Callable[[], T], *, timeout_s: float = ..., message: str = ...) -> T: ...
async def eventually(predicate: Callable[[], Any], *, timeout_s: float = 10.0, message: str = "") -> Any:
    """Call ``predicate`` (sync or async) until it is true; return its value, or fail after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while True:
        answer: Any = predicate()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise AssertionError(_failure(predicate, answer, timeout_s, message))
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)


def eventually_sync(predicate: Callable[[], T], *, timeout_s: float = 10.0, message: str = "") -> T:
    """Do what ``eventually`` does, for tests without a loop."""
    deadline = time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise AssertionError(_failure(predicate, answer, timeout_s, message))
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)


def _failure(predicate: Callable[[], Any], answer: object, timeout_s: float, message: str) -> str:
    what = message or getattr(predicate, "__qualname__", repr(predicate))
    return f"not true within {timeout_s:g} s: {what} (last answer: {answer!r})"
