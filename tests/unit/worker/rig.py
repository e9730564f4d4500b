"""A worker over the memory backend, with faults on demand."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

from soniqd.backends import StorageBackend
from soniqd.backends.memory import MemoryBackend
from soniqd.control.identity import current_identity
from soniqd.errors import DatabaseUnavailableError
from soniqd.model import JobId, JobRecord, NewJob, WorkerId, WorkerRecord
from soniqd.queue.arguments import read_signature
from soniqd.queue.hooks import Hooks
from soniqd.queue.ids import new_job_id
from soniqd.queue.registry import Task, TaskRegistry
from soniqd.worker import Worker, WorkerOptions
from tests.support.waiting import eventually

Fault = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]

FAST = WorkerOptions(
    concurrency=4, poll_interval_s=30.0, cancel_grace_s=0.2, write_grace_s=2.0, job_timeout_s=0.0, sync_threads=2
)


class FaultyBackend:
    """Passes every call on, unless a fault was set for it; remembers the names of the calls."""

    def __init__(self, inner: StorageBackend) -> None:
        self.inner = inner
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)

    def fault(self, method: str, *faults: Fault) -> None:
        self._faults[method].extend(faults)

    def replace(self, method: str, function: Callable[..., Awaitable[Any]]) -> None:
        """Let every call of a method go to a function."""
        self.__dict__[method] = function

    def count(self, method: str) -> int:
        return sum(1 for name, _, _ in self.calls if name == method)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.inner, name)
        if not inspect.iscoroutinefunction(attribute):
            return attribute

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            if self._faults[name]:
                return await self._faults[name].popleft()(lambda: attribute(*args, **kwargs))
            return await attribute(*args, **kwargs)

        return call


async def lost_before(call: Callable[[], Awaitable[Any]]) -> Any:
    """The connection breaks before the statement arrives."""
    raise DatabaseUnavailableError("cannot reach the database: scripted")


async def lost_after(call: Callable[[], Awaitable[Any]]) -> Any:
    """The statement is carried out, its answer lost."""
    await call()
    raise DatabaseUnavailableError("cannot reach the database: scripted, after the fact")


async def hang(call: Callable[[], Awaitable[Any]]) -> Any:
    """The database never answers."""
    await asyncio.Event().wait()


class Rig:
    """Tasks, a backend, and workers over them."""

    def __init__(self, options: WorkerOptions = FAST) -> None:
        self.memory = MemoryBackend()
        self.backend = FaultyBackend(self.memory)
        self.tasks = TaskRegistry()
        self.hooks = Hooks()
        self.options = options
        self.supervised = False
        self.extra: dict[str, Any] = {}

    def task(self, handler: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
        name = settings.pop("name", handler.__name__)
        self.tasks.add(
            Task(
                name=name,
                handler=handler,
                is_async=inspect.iscoroutinefunction(handler),
                signature=read_signature(handler, name),
                **settings,
            )
        )
        return handler

    def worker(self, *, until_empty: bool = False, **options: Any) -> Worker:
        chosen = replace(self.options, **options)
        return Worker(
            backend=cast("StorageBackend", self.backend),
            tasks=self.tasks,
            hooks=self.hooks,
            record=replace(record(concurrency=chosen.concurrency, queues=chosen.queues), supervised=self.supervised),
            options=chosen,
            until_empty=until_empty,
            **self.extra,
        )

    async def enqueue(self, name: str, args: dict[str, Any] | None = None, **fields: Any) -> JobId:
        job = NewJob(id=new_job_id(), name=name, args_json=json.dumps(args or {}), **fields)
        [job_id] = await self.memory.enqueue([job])
        return job_id

    async def job(self, job_id: JobId) -> JobRecord:
        found = await self.memory.get_job(job_id)
        assert found is not None
        return found

    async def status(self, job_id: JobId) -> str:
        found = await self.memory.get_job(job_id)
        return "dead_letter" if found is None else found["status"]

    async def until(self, job_id: JobId, status: str) -> JobRecord:
        """Wait until a job has a status."""

        async def reached() -> JobRecord | None:
            found = await self.memory.get_job(job_id)
            return found if found is not None and found["status"] == status else None

        return await eventually(reached, message=f"job is {status}")

    async def dead_letter(self, job_id: JobId) -> dict[str, Any]:
        async def found() -> dict[str, Any] | None:
            return await self.memory.get_dead_letter(job_id)

        return await eventually(found, message="the job is a dead letter")

    async def run_once(self, **options: Any) -> Worker:
        """Run everything that can run now."""
        worker = self.worker(until_empty=True, **options)
        await asyncio.wait_for(worker.run(), 20)
        return worker

    @asynccontextmanager
    async def running(self, **options: Any):
        """Run a worker around the block, and drain it behind."""
        worker = self.worker(**options)
        ready = asyncio.Event()
        worker.on_ready = ready.set
        task = asyncio.create_task(worker.run())
        starting = asyncio.create_task(ready.wait())
        await asyncio.wait({task, starting}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        starting.cancel()
        try:
            yield worker
            worker.drain(5)
            await asyncio.wait_for(task, 20)
        finally:
            if not task.done():
                worker.drain(0)
                await asyncio.wait_for(task, 20)


def record(*, concurrency: int = 4, queues: tuple[str, ...] = ()) -> WorkerRecord:
    import uuid

    return WorkerRecord(
        id=WorkerId(str(uuid.uuid4())), process=current_identity(), queues=queues, concurrency=concurrency
    )
