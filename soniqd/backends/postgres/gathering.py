"""Single enqueues of one process that come at the same time, stored together.

A caller who is alone has a statement, and a round trip, of his own. Who comes while ``_LANES`` statements are under
way waits for the next one, which stores all who wait: one round trip, one commit and one notification a queue for all
of them. Nobody's call returns before its job is durable, and each caller keeps errors of his own: where a batch is
refused for what a job in it holds, each of its jobs is stored alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from copy import copy

from soniqd.errors import DatabaseError, DatabaseUnavailableError, InvalidArgumentsError, SoniqError
from soniqd.model import NewJob

_LANES = 2
"""Statements under way at once: one would make everybody wait for somebody else's, more gather less."""

_LARGEST_BATCH = 200
"""Jobs in one statement: its callers all wait for the last of them."""

StoreOne = Callable[[NewJob], Awaitable[object]]
StoreMany = Callable[[Sequence[NewJob]], Awaitable[object]]


class Gatherer:
    """Belongs to one event loop. What it is given to store holds no key, so that each job stands for itself."""

    def __init__(self, *, one: StoreOne, many: StoreMany) -> None:
        self._one = one
        self._many = many
        self._waiting: deque[tuple[NewJob, asyncio.Future[None]]] = deque()
        self._lanes = _LANES
        self._tasks: set[asyncio.Task[None]] = set()

    async def store(self, job: NewJob) -> None:
        """Store a job. Cancelling leaves undone what has not begun."""
        if self._lanes:
            self._lanes -= 1
            try:
                await self._one(job)
            finally:
                self._go_on()
            return
        stored = asyncio.get_running_loop().create_future()
        self._waiting.append((job, stored))
        await stored

    def _go_on(self) -> None:
        """Give a lane that has become free to those who wait, in a task: no caller's cancelling may hurt the others."""
        batch: list[tuple[NewJob, asyncio.Future[None]]] = []
        while self._waiting and len(batch) < _LARGEST_BATCH:
            job, stored = self._waiting.popleft()
            if not stored.done():
                batch.append((job, stored))
        if not batch:
            self._lanes += 1
            return
        task = asyncio.create_task(self._store_batch(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _store_batch(self, batch: Sequence[tuple[NewJob, asyncio.Future[None]]]) -> None:
        try:
            if len(batch) == 1:
                await self._settle_one(*batch[0])
            else:
                await self._settle_many(batch)
        finally:
            self._go_on()

    async def _settle_many(self, batch: Sequence[tuple[NewJob, asyncio.Future[None]]]) -> None:
        try:
            await self._many([job for job, _ in batch])
        except BaseException as error:
            if _is_about_one(error):
                for job, stored in batch:
                    await self._settle_one(job, stored)
                return
            for _, stored in batch:
                _fail(stored, error)
            if not isinstance(error, Exception):
                raise
        else:
            for _, stored in batch:
                _succeed(stored)

    async def _settle_one(self, job: NewJob, stored: asyncio.Future[None]) -> None:
        try:
            await self._one(job)
        except BaseException as error:
            _fail(stored, error)
            if not isinstance(error, Exception):
                raise
        else:
            _succeed(stored)


def _is_about_one(error: BaseException) -> bool:
    """Whether the database took nothing, for what it was given; where a connection is lost, nobody knows."""
    return isinstance(error, InvalidArgumentsError | DatabaseError) and not isinstance(error, DatabaseUnavailableError)


def _succeed(stored: asyncio.Future[None]) -> None:
    if not stored.done():
        stored.set_result(None)


def _fail(stored: asyncio.Future[None], error: BaseException) -> None:
    """Give each caller an error of his own, since raising one adds to its traceback."""
    if stored.done():
        return
    if isinstance(error, asyncio.CancelledError):
        stored.cancel()
        return
    own = copy(error) if isinstance(error, SoniqError) else error
    own.__cause__ = error.__cause__
    stored.set_exception(own)
