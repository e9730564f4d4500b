"""What to ask for: how many jobs of which tasks there is room for.

Room is the free slots and, at high rates, a stock of jobs for the next moments (``prefetch_s`` at the current rate).
Handlers without ``async`` are asked for apart, and for free threads only, once it has shown that they are slow.
"""

from __future__ import annotations

from typing import NamedTuple

from soniqd.queue.registry import TaskRegistry
from soniqd.worker.completer import Completer
from soniqd.worker.executor import Executor
from soniqd.worker.options import WorkerOptions
from soniqd.worker.stock import Rate

NEVER = -1
ALWAYS = 1_000_000_000
"""Levels for the executor's ``low_water``."""

_SLOW_THREADS_S = 30.0
"""How long threads that held claimed jobs up are asked for apart."""
_FEW = 8
"""Of a stock no larger than one part in this many of the slots nothing is held while none is used."""


class Ask(NamedTuple):
    """One claim: of these tasks, so many jobs at most."""

    names: tuple[str, ...]
    limit: int


class Asking:
    """Decides what a claimer asks for. It may set the executor's ``low_water``: when there is room again."""

    def __init__(
        self, *, tasks: TaskRegistry, options: WorkerOptions, executor: Executor, completer: Completer
    ) -> None:
        self._tasks = tasks
        self._options = options
        self._executor = executor
        self._completer = completer
        self._rate = Rate()
        self._names: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        self._names_known = -1
        self._at_rest: list[Ask] = []
        self._slow_until = 0.0
        self.skipped_threads = False
        """Jobs for threads were not asked for, since none is free."""

    @property
    def free(self) -> int:
        """How many jobs more it would ask for: where no handler is async, each needs a free thread, too."""
        executor = self._executor
        with_async, threaded = self._task_names()
        if with_async or not threaded:
            return executor.free
        return max(0, min(executor.free, executor.threads_free - executor.parked))

    def asks(self, now: float) -> list[Ask]:
        """Return what to claim now."""
        executor = self._executor
        if self._completer.is_full or executor.isolating:
            executor.low_water = NEVER  # the completer rings after each write, and so does the end of a suspect
            return []
        stock = self._rate.stock(executor.ended, now, self._options)
        if executor.is_idle and stock * _FEW <= self._options.concurrency and now >= self._slow_until:
            return self._asks_at_rest(now)
        return self._asks_for(stock, now)

    def waited_in_vain(self, now: float) -> None:
        """Note that claimed jobs have found no slot for too long."""
        if self._executor.parked:
            self._slow_until = now + _SLOW_THREADS_S
            self.skipped_threads = True
        self._rate.reset(self._executor.ended, now)

    def _asks_at_rest(self, now: float) -> list[Ask]:
        """Ask as last time: a job has come, and waits for just this."""
        if self._at_rest and self._names_known == len(self._tasks):
            self.skipped_threads, self._executor.low_water = False, 0
            return self._at_rest
        asks = self._asks_for(0, now)
        if not self.skipped_threads:
            self._at_rest = asks
        return asks

    def _asks_for(self, stock: int, now: float) -> list[Ask]:
        executor = self._executor
        with_async, threaded = self._task_names()
        waiting = executor.ready if with_async else executor.waiting
        executor.low_water = stock // 2
        # Above half of the stock nothing is asked for, so that each claim is worth its round trip.
        if waiting > stock // 2:
            return []
        return self._split(with_async, threaded, stock, now)

    def _split(self, with_async: tuple[str, ...], threaded: tuple[str, ...], stock: int, now: float) -> list[Ask]:
        """Divide the claim by kind of handler where slow handlers in threads would hold up claimed jobs."""
        executor = self._executor
        slow = now < self._slow_until
        threads = executor.threads_free - executor.parked
        limit = executor.free + stock - executor.ready
        self.skipped_threads = False
        if with_async and threaded and threads > 0 and not slow:
            return _worthwhile(Ask(with_async + threaded, limit))
        for_threads = min(executor.free, threads)
        if not with_async and not slow:
            for_threads = min(executor.free, executor.threads_free) + stock - executor.waiting
        self.skipped_threads = bool(threaded) and for_threads <= 0
        if self.skipped_threads:
            executor.low_water = ALWAYS
        return _worthwhile(Ask(with_async, limit), Ask(threaded, for_threads))

    def _task_names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of handlers with ``async`` and of those without."""
        if len(self._tasks) != self._names_known:
            self._names_known = len(self._tasks)
            self._names = (
                tuple(task.name for task in self._tasks if task.is_async),
                tuple(task.name for task in self._tasks if not task.is_async),
            )
        return self._names


def _worthwhile(*asks: Ask) -> list[Ask]:
    return [ask for ask in asks if ask.names and ask.limit > 0]
