"""Jobs in: one, many, or later."""

from __future__ import annotations

from typing import Any

from soniqd.app.chunks import DedupKeys, Items, OnStored, store_in_chunks
from soniqd.app.core import AppCore
from soniqd.errors import InvalidArgumentsError, UnsupportedByBackendError
from soniqd.model import NewJob
from soniqd.queue import new_jobs
from soniqd.queue.new_jobs import RunTime, Target


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
        options = new_jobs.options(queue=queue, priority=priority, scheduled_at=scheduled_at, unique=unique)
        job = self._maker.recipe(target, options).make(arguments, new_jobs.dedup_key(dedup_key))
        return (await self._store([job], connection))[0]

    async def enqueue_many(
        self,
        target: Target,
        items: Items,
        /,
        *,
        queue: str | None = None,
        priority: int | None = None,
        scheduled_at: RunTime | None = None,
        unique: bool | None = None,
        dedup_keys: DedupKeys | None = None,
        connection: Any = None,
        on_stored: OnStored | None = None,
    ) -> list[str]:
        """Store a job of one task for each item (a dict of arguments or a pydantic model); return ids in order.

        ``items`` may be an iterator of any length, also an asynchronous one: it is read and stored in chunks of 5000
        jobs or 8 MiB of arguments, whichever comes first. Each chunk is one transaction, stored whole or not at all,
        and what was stored before an error stays; for all of them together pass a ``connection`` and its transaction.
        ``dedup_keys`` gives each item its key: as many keys as items, or a function of the item. The options mean
        what they mean to ``enqueue``. An InvalidArgumentsError tells the item's ``index`` and how many jobs were
        ``stored`` before, in its context.

        The ids of all jobs are many for a very long iterator: ``on_stored`` is called with those of each chunk once
        it is stored (in a transaction of yours: written), and the answer is then an empty list.
        """
        options = new_jobs.options(queue=queue, priority=priority, scheduled_at=scheduled_at, unique=unique)
        recipe = self._maker.recipe(target, options)
        return await store_in_chunks(
            recipe,
            items,
            dedup_keys,
            lambda chunk: self._store(chunk, connection),
            ahead=connection is None,
            on_stored=on_stored,
        )

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
            return [*await (await self._lifecycle.open()).enqueue(jobs)]
        backend = self._lifecycle.backend  # which needs no connection of its own for this
        if not backend.capabilities.transactional_enqueue:
            raise UnsupportedByBackendError(
                f"cannot enqueue in a transaction of yours: the {backend.capabilities.name} backend has no such thing; "
                "leave out connection="
            )
        return [*await backend.enqueue(jobs, connection=connection)]
