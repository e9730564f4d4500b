"""Threads for handlers without ``async``.

Not a ThreadPoolExecutor: the interpreter joins that one's threads at exit, so that a handler that never ends would
keep a drained process from leaving. These are daemon threads. They also report back in batches: one wake-up of the
event loop serves all calls that have ended since.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from soniqd.log.context import job_id_var
from soniqd.worker.copies import Original

_Call = tuple["asyncio.Future[Any]", contextvars.Context, Callable[[], Any]]
_Ended = tuple["asyncio.Future[Any]", Any, BaseException | None]


class HandlerThreads:
    """Up to ``limit`` threads, started when they are first needed. The caller sees to it that no call has to queue."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._ended: deque[_Ended] = deque()
        self._signalled = False
        self._started = 0
        self._busy = 0
        self._contexts: dict[int, contextvars.Context] = {}
        self._original = Original()

    async def run(self, call: Callable[[], Any]) -> Any:
        """Return what ``call`` returns in a thread, with the caller's context variables, or raise what it raises.

        Cancelling the waiter leaves the thread alone, and what it ends with unheard.
        """
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = self._loop.create_future()
        self._busy += 1
        if self._busy > self._started and self._started < self._limit:
            self._start_thread()
        self._calls.put((future, contextvars.copy_context(), call))
        try:
            return await future
        finally:
            del future, call  # an error's traceback has this frame, and the future has the error

    def jobs(self) -> dict[int, str]:
        """Tell which job each thread works for, by its identifier. Any thread may ask."""
        found = {ident: context.get(job_id_var) for ident, context in self._contexts.copy().items()}
        return {ident: job_id for ident, job_id in found.items() if job_id is not None}

    def close(self) -> None:
        """Let idle threads end, and busy ones after their call."""
        for _ in range(self._started):
            self._calls.put(None)

    def _start_thread(self) -> None:
        self._started += 1
        threading.Thread(target=self._work, name=f"soniqd-handler-{self._started}", daemon=True).start()

    def _work(self) -> None:
        ident = threading.get_ident()
        while (item := self._calls.get()) is not None:
            future, context, call = item
            self._contexts[ident] = context
            try:
                ended: _Ended = (future, context.run(call), None)
            except BaseException as error:  # noqa: BLE001  it is the waiter's to judge, SystemExit included
                ended = (future, None, error)
            context.run(self._original.insist)
            del self._contexts[ident]
            self._report(ended)
            del item, future, context, call, ended

    def _report(self, ended: _Ended) -> None:
        self._ended.append(ended)
        # Set after the append and cleared before the deliverer's first popleft: an end is never left unsignalled.
        if not self._signalled:
            self._signalled = True
            assert self._loop is not None
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                return  # the loop is closed: the worker left this thread behind

    def _deliver(self) -> None:
        self._signalled = False
        while self._ended:
            future, value, error = self._ended.popleft()
            self._busy -= 1
            if future.done():
                continue
            if error is None:
                future.set_result(value)
            elif isinstance(error, StopIteration | GeneratorExit):
                # Either would end the coroutines that await the future instead of being raised in them.
                wrapped = RuntimeError(f"the handler raised {type(error).__name__}")
                wrapped.__cause__ = error
                future.set_exception(wrapped)
            else:
                future.set_exception(error)
