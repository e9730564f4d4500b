"""Make a message fit its packet: neither thousands of tasks nor an endless traceback may keep the master uninformed."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from soniqd.control.fork import Booted, BootFailed, encode
from soniqd.errors import ControlError

M = TypeVar("M", Booted, BootFailed)

_FEW = 2


def fitting(message: M) -> M:
    """Return the message with its longest parts halved as often as it takes."""
    while True:
        try:
            encode(message)
        except ControlError:
            message = _halved(message)
        else:
            return message


def _halved(message: M) -> M:
    if isinstance(message, Booted):
        if len(message.tasks) <= _FEW >= len(message.schedules):
            return replace(message, code={})  # unknown code counts as changed
        return replace(message, tasks=_fewer(message.tasks), schedules=_fewer(message.schedules))
    problems = tuple(_shorter(problem) for problem in _fewer(message.problems))
    # The end of a traceback names the error.
    return replace(message, problems=problems, traceback=message.traceback[len(message.traceback) // 2 + 1 :])


def _fewer(names: tuple[str, ...]) -> tuple[str, ...]:
    return names if len(names) <= _FEW else (*names[: len(names) // 2], "...")


def _shorter(text: str) -> str:
    return text if len(text) <= 200 else f"{text[: len(text) // 2]}..."
