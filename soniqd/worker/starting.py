"""How a job's task starts: at once where the interpreter can do that, each in a context of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextvars import Context, copy_context
from typing import Any

EAGER = sys.version_info >= (3, 12)
"""Tasks run their first step when they are made (Python 3.12: asyncio.eager_task_factory). A handler that never waits
has ended then, without a turn of the event loop for it."""


class Starter:
    """Makes tasks. What one of them sets in its context variables, no other one sees."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context: Context | None = None

    def start(self, steps: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a coroutine; what is in the context of the first call is what all of them begin with."""
        if self._loop is None or self._context is None:
            self._loop, self._context = asyncio.get_running_loop(), copy_context()
        if sys.version_info >= (3, 12):
            return asyncio.Task(steps, loop=self._loop, context=self._context.copy(), eager_start=True)
        return self._loop.create_task(steps, context=self._context.copy())
