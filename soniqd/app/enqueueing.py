"""Jobs in: one, many, or later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import repeat
from typing import Any

from soniqd.app.core import AppCore
from soniqd.errors import InvalidArgumentsError, UnsupportedByBackendError
from soniqd.model import NewJob
from soniqd.queue import new_jobs
from soniqd.queue.new_jobs import Options, Recipe, RunTime, Target

CHUNK_JOBS = 5000
CHUNK_BYTES = 8 * 1024 * 1024
"""A chunk of ``enqueue_many`` ends with whichever comes first, so that a statement's size is bounded."""

_NO_OPTIONS = Options()


class Enqueueing(AppCore):
    """Checks a job where it is enqueued, so that a mistake surfaces at its author's and not in a worker."""

    async def enqueue(
        self,
        target: Target,
        /,
        *,
        args: Any = None,
        queue: str | None = None,
        priority: int | None = None,
        scheduled_at: RunTime | None = None,
        unique: bool | None = None,
        dedup_key: str | None = None,
        connection: Any = None,
        **arguments: Any,
    ) -> str:
        """Store a job and return its id.

        ``target`` is a declared function, a task's name or a TaskRef. Its arguments are the keywords, or ``args=``
        (a dict or a pydantic model), which is the only way for arguments that are named like one of the options.
        ``scheduled_at`` is an aware datetime, or the time from now as a timedelta or a number of seconds.

        ``unique`` stores nothing while an equal job (same task, same arguments) is queued, ``dedup_key`` while one
        with the same key is; the id returned is then that job's. ``connection`` is a psycopg AsyncConnection, in
        whose transaction the job is stored: it exists if and only if that commits.

        Raises InvalidArgumentsError, UnknownTaskError, InvalidTaskNameError, UnsupportedByBackendError, ClosedError
        or a DatabaseError.
        """
        if args is not None:
            arguments = new_jobs.arguments(args, arguments)
        if queue is None and priority is None and scheduled_at is None and unique is None:
            options = _NO_OPTIONS
        else:
            options = new_jobs.options(queue=queue, priority=priority, scheduled_at=scheduled_at, unique=unique)
        job = self._maker.recipe(target, options).make(arguments, new_jobs.dedup_key(dedup_key))
        return (await self._store([job], connection))[0]

    async def enqueue_many(
        self,
        target: Target,
        items: Iterable[Any],
        /,
        *,
        queue: str | None = None,
        priority: int | None = None,
        scheduled_at: RunTime | None = None,
        unique: bool | None = None,
        dedup_keys: Iterable[str | None] | None = None,
        connection: Any = None,
    ) -> list[str]:
        """Store a job of one task for each item (a dict of arguments or a pydantic model); return ids in order.

        ``items`` may be an iterator of any length: it is read and stored in chunks. Each chunk is stored whole or
        not at all; for all of them together pass a ``connection`` and its transaction. ``dedup_keys`` gives each
        item its key. The options mean what they mean to ``enqueue``. An InvalidArgumentsError tells the item's
        ``index`` and how many jobs were ``stored`` before, in its context.
        """
        options = new_jobs.options(queue=queue, priority=priority, scheduled_at=scheduled_at, unique=unique)
        recipe = self._maker.recipe(target, options)
        ids: list[str] = []
        jobs = _jobs(recipe, items, dedup_keys)
        try:
            for chunk in _chunks(jobs):
                ids += await self._store(chunk, connection)
        except InvalidArgumentsError as error:
            error.context.setdefault("stored", len(ids))
            raise
        return ids

    async def schedule(
        self,
        target: Target,
        run_at: RunTime,
        /,
        *,
        args: Any = None,
        queue: str | None = None,
        priority: int | None = None,
        unique: bool | None = None,
        dedup_key: str | None = None,
        connection: Any = None,
        **arguments: Any,
    ) -> str:
        """Store a job to be run at a time, which is given as to ``enqueue(scheduled_at=...)``."""
        if run_at is None:
            raise InvalidArgumentsError("cannot schedule: run_at is None")
        return await self.enqueue(
            target,
            args=new_jobs.arguments(args, arguments),
            queue=queue,
            priority=priority,
            scheduled_at=run_at,
            unique=unique,
            dedup_key=dedup_key,
            connection=connection,
        )

    async def _store(self, jobs: list[NewJob], connection: Any) -> list[str]:
        if connection is None:
            return list[str](await (await self._lifecycle.open()).enqueue(jobs))
        backend = self._lifecycle.backend  # which needs no connection of its own for this
        if not backend.capabilities.transactional_enqueue:
            raise UnsupportedByBackendError(
                f"cannot enqueue in a transaction of yours: the {backend.capabilities.name} backend has no such thing; "
                "leave out connection="
            )
        return list[str](await backend.enqueue(jobs, connection=connection))


def _jobs(recipe: Recipe, items: Iterable[Any], dedup_keys: Iterable[str | None] | None) -> Iterator[NewJob]:
    if isinstance(items, Mapping | str):
        raise InvalidArgumentsError("cannot enqueue many: items must be an iterable of dicts, one for each job")
    keys = iter(repeat(None) if dedup_keys is None else dedup_keys)
    index = -1
    for index, item in enumerate(items):
        try:
            key = next(keys)
        except StopIteration:
            raise InvalidArgumentsError(f"cannot enqueue many: item {index} has no dedup key", index=index) from None
        try:
            yield recipe.make(new_jobs.argument_dict(item), new_jobs.dedup_key(key))
        except InvalidArgumentsError as error:
            raise InvalidArgumentsError(f"item {index}: {error}", **{**error.context, "index": index}) from error
    if dedup_keys is not None and next(keys, repeat) is not repeat:
        raise InvalidArgumentsError(f"cannot enqueue many: more dedup keys than the {index + 1} items")


def _chunks(jobs: Iterator[NewJob]) -> Iterator[list[NewJob]]:
    chunk: list[NewJob] = []
    size = 0
    for job in jobs:
        chunk.append(job)
        size += len(job.args_json)
        if len(chunk) >= CHUNK_JOBS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
