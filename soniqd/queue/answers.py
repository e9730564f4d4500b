"""What an application's code answers: a value, or something to wait for."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Generator
from types import CoroutineType
from typing import Any

_ENDED = object()


def is_awaitable(answer: Any) -> bool:
    """Tell what ``inspect.isawaitable`` does, at once for nothing and for coroutines: most answers."""
    return answer is not None and (type(answer) is CoroutineType or inspect.isawaitable(answer))


def left_of(answer: Any) -> Awaitable[object] | None:
    """Run what was answered as far as it gets without waiting; return what is left to be awaited, if anything.

    Most coroutines of hooks and sinks never wait: they have ended here, without a coroutine of ours around them. What
    they raise is raised. To be called within the task that then awaits what is left.
    """
    if type(answer) is not CoroutineType:
        return answer if is_awaitable(answer) else None
    waits_for = next(answer.__await__(), _ENDED)  # as send(None), without an exception for each that ends
    return None if waits_for is _ENDED else _Begun(answer, waits_for)


class _Begun:
    """A coroutine that has taken its first step, and what it waits for since."""

    __slots__ = ("_steps", "_waits_for")

    def __init__(self, steps: CoroutineType[Any, Any, Any], waits_for: Any) -> None:
        self._steps = steps
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        """Go on as ``yield from`` would have (PEP 380)."""
        steps, waits_for = self._steps, self._waits_for
        try:
            while True:
                try:
                    sent = yield waits_for
                except GeneratorExit:
                    steps.close()
                    raise
                except BaseException as error:  # noqa: BLE001  it is the coroutine's: a cancellation, most likely
                    waits_for = steps.throw(error)
                else:
                    waits_for = steps.send(sent)
        except StopIteration as end:
            return end.value
