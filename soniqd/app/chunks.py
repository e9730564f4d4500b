"""From items of any number to chunks of jobs, read as they are stored: a chunk at a time is held in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from itertools import repeat
from typing import Any

from soniqd.errors import InvalidArgumentsError
from soniqd.model import NewJob
from soniqd.queue import new_jobs
from soniqd.queue.ids import new_job_ids
from soniqd.queue.new_jobs import Recipe

CHUNK_JOBS = 5000
CHUNK_BYTES = 8 * 1024 * 1024
"""A chunk ends with whichever comes first, so that a statement's size is bounded."""

Items = Iterable[Any] | AsyncIterable[Any]
"""Dicts of arguments or pydantic models, one for each job."""

DedupKeys = Iterable[str | None] | Callable[[Any], str | None]
"""As many keys as there are items, or what tells an item's key."""


async def chunks(recipe: Recipe, items: Items, dedup_keys: DedupKeys | None) -> AsyncGenerator[list[NewJob], None]:
    """Make the jobs, chunk by chunk; raises InvalidArgumentsError with the ``index`` of the item."""
    if isinstance(items, Mapping | str):
        raise InvalidArgumentsError("cannot enqueue many: items must be an iterable of dicts, one for each job")
    chunk = _Chunk(recipe, dedup_keys)
    if isinstance(items, AsyncIterable):
        async for item in items:
            if chunk.add(item):
                yield chunk.take()
    else:
        for item in items:
            if chunk.add(item):
                yield chunk.take()
    chunk.check_keys_used()
    if last := chunk.take():
        yield last


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
