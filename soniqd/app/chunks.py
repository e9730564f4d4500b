"""From items of any number to chunks of jobs: the next chunk is made while one is stored, so two are in memory at most.

Making a chunk takes turns with everything else in the event loop. An iterator that keeps the loop waiting is not read
while a chunk is being stored: the database would give up on a transaction whose client does nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from itertools import repeat
from typing import Any

from soniqd.errors import InvalidArgumentsError
from soniqd.model import NewJob
from soniqd.queue import new_jobs
from soniqd.queue.ids import new_job_ids
from soniqd.queue.new_jobs import Recipe

OnStored = Callable[[list[str]], object]
"""Hears the ids of each chunk when it is stored."""

CHUNK_JOBS = 5000
CHUNK_BYTES = 8 * 1024 * 1024
"""A chunk ends with whichever comes first, so that a statement's size is bounded."""

Items = Iterable[Any] | AsyncIterable[Any]
"""Dicts of arguments or pydantic models, one for each job."""

DedupKeys = Iterable[str | None] | Callable[[Any], str | None]
"""As many keys as there are items, or what tells an item's key."""


_TURN = 250
"""Items made in one turn: about a millisecond."""

_SLOW_TURN_S = 0.05
"""Where the iterator took longer than this for its last items, nothing is being stored during the next ones."""

_LONG_TURN_S = 1.0
"""Nor ever again after such a wait: an open transaction bears ten seconds of them."""


async def store_in_chunks(
    recipe: Recipe,
    items: Items,
    dedup_keys: DedupKeys | None,
    store: Callable[[list[NewJob]], Awaitable[list[str]]],
    *,
    ahead: bool,
    on_stored: OnStored | None = None,
) -> list[str]:
    """Make and store a job for each item; return what ``store`` answers, in order, or hand it to ``on_stored``.

    ``ahead`` makes a chunk while another one is being stored. Raises what ``items`` and ``store`` raise, and
    InvalidArgumentsError with the ``index`` of the item and the number of jobs ``stored`` before.
    """
    ids: list[str] = []
    storing = _Storing(store, on_stored or ids.extend)
    try:
        async with aclosing(_chunks(recipe, items, dedup_keys, storing)) as made:
            async for chunk, is_last in made:
                await storing.add(chunk, ahead=ahead and not is_last)
        await storing.finish()
    except asyncio.CancelledError:
        await storing.cancel()
        raise
    except InvalidArgumentsError as error:
        await storing.finish()
        error.context.setdefault("stored", storing.count)
        raise
    except BaseException:
        await storing.finish()
        raise
    return ids


class _Storing:
    """Stores one chunk at a time."""

    def __init__(self, store: Callable[[list[NewJob]], Awaitable[list[str]]], on_stored: OnStored) -> None:
        self._store = store
        self._on_stored = on_stored
        self._under_way: asyncio.Task[None] | None = None
        self._was_slow = self._was_ever_long = False
        self.count = 0

    async def add(self, chunk: list[NewJob], *, ahead: bool) -> None:
        """Store a chunk after the one before; with ``ahead``, return as soon as that has begun."""
        await self.finish()
        if not ahead or self._was_slow or self._was_ever_long:
            await self._run(chunk)
            return
        self._under_way = asyncio.create_task(self._run(chunk))
        await asyncio.sleep(0)

    async def finish(self) -> None:
        """Wait for what is under way."""
        task, self._under_way = self._under_way, None
        if task is not None:
            await task

    async def cancel(self) -> None:
        """Leave what is under way."""
        if self._under_way is not None:
            self._under_way.cancel()
            await asyncio.wait([self._under_way])

    async def take_turns(self, began_s: float) -> None:
        """Let others run; after a turn that was slow, until nothing is under way."""
        took_s = time.monotonic() - began_s
        self._was_slow = took_s > _SLOW_TURN_S
        self._was_ever_long = self._was_ever_long or took_s > _LONG_TURN_S
        if self._under_way is not None and self._was_slow:
            await asyncio.wait([self._under_way])
        else:
            await asyncio.sleep(0)

    async def _run(self, chunk: list[NewJob]) -> None:
        """Store a chunk and tell of it at once: the next one may be long in coming, or never come."""
        ids = await self._store(chunk)
        self.count += len(ids)
        self._on_stored(ids)


async def _chunks(
    recipe: Recipe, items: Items, dedup_keys: DedupKeys | None, storing: _Storing
) -> AsyncGenerator[tuple[list[NewJob], bool], None]:
    """Make the jobs, chunk by chunk, each with whether it is surely the last one."""
    if isinstance(items, Mapping | str):
        raise InvalidArgumentsError("cannot enqueue many: items must be an iterable of dicts, one for each job")
    chunk = _Chunk(recipe, dedup_keys)
    if isinstance(items, AsyncIterable):
        count = 0
        async for item in items:
            if chunk.add(item):
                yield chunk.take(), False
            count += 1
            if count % _TURN == 0:  # it need not wait for anything itself
                await asyncio.sleep(0)
    else:
        began_s = time.monotonic()
        for count, item in enumerate(items, 1):
            is_full = chunk.add(item)
            if count % _TURN == 0 or time.monotonic() - began_s > _SLOW_TURN_S:
                await storing.take_turns(began_s)
                began_s = time.monotonic()
            if is_full:
                yield chunk.take(), False
                began_s = time.monotonic()  # the time that storing took was not the iterator's
    chunk.check_keys_used()
    if last := chunk.take():
        yield last, True


class _Chunk:
    """The jobs that were made and not taken yet, their ids left out: those are cheaper by the thousand."""

    def __init__(self, recipe: Recipe, dedup_keys: DedupKeys | None) -> None:
        self._recipe = recipe
        self._key_of = dedup_keys if callable(dedup_keys) else None
        self._keys = iter(repeat(None) if dedup_keys is None or callable(dedup_keys) else dedup_keys)
        self._index = -1
        self._made: list[tuple[str, str | None, str | None]] = []
        self._size = 0

    def add(self, item: Any) -> bool:
        """Make an item's job; return whether the chunk is full."""
        self._index += 1
        try:
            key = next(self._keys) if self._key_of is None else self._key_of(item)
        except StopIteration:
            problem = f"cannot enqueue many: item {self._index} has no dedup key"
            raise InvalidArgumentsError(problem, index=self._index) from None
        try:
            args_json, args_hash = self._recipe.encode(new_jobs.argument_dict(item))
            self._made.append((args_json, args_hash, new_jobs.dedup_key(key)))
        except InvalidArgumentsError as error:
            context = {**error.context, "index": self._index}
            raise InvalidArgumentsError(f"item {self._index}: {error}", **context) from error
        self._size += len(args_json)
        return len(self._made) >= CHUNK_JOBS or self._size >= CHUNK_BYTES

    def take(self) -> list[NewJob]:
        made, self._made, self._size = self._made, [], 0
        put_together = self._recipe.put_together
        return [put_together(job_id, *parts) for job_id, parts in zip(new_job_ids(len(made)), made, strict=True)]

    def check_keys_used(self) -> None:
        """Raise InvalidArgumentsError if there are more keys than items."""
        if not isinstance(self._keys, repeat) and next(self._keys, repeat) is not repeat:
            raise InvalidArgumentsError(f"cannot enqueue many: more dedup keys than the {self._index + 1} items")
