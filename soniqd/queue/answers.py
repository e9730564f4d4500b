"""What an application's code answers: a value, or something to wait for."""

from __future__ import annotations

import inspect
from types import CoroutineType
from typing import Any


def is_awaitable(answer: Any) -> bool:
    """Tell what ``inspect.isawaitable`` does, at once for nothing and for coroutines: most answers."""
    return answer is not None and (type(answer) is CoroutineType or inspect.isawaitable(answer))
