"""A worker's row in the database, from the first word to the last."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from soniqd.backends import StorageBackend
from soniqd.errors import DatabaseError, SchemaError
from soniqd.model import TaskDefaults, WorkerRecord, WorkerStatus
from soniqd.queue.arguments import argument_names
from soniqd.queue.registry import Task, TaskRegistry
from soniqd.worker.options import WorkerOptions
from soniqd.worker.outage import Outage


class Registration:
    """``record`` is what the worker is; ``is_current`` once the database has it so."""

    def __init__(
        self,
        record: WorkerRecord,
        *,
        backend: StorageBackend,
        tasks: TaskRegistry,
        options: WorkerOptions,
        outage: Outage,
    ) -> None:
        self.record = record
        self._backend = backend
        self._tasks = tasks
        self._options = options
        self._outage = outage
        self._registered: WorkerRecord | None = None

    @property
    def is_current(self) -> bool:
        return self._registered is self.record

    def set_paused(self, *, paused: bool) -> None:
        """Let everybody who asks why a job waits know of it, when it is registered again."""
        self.record = replace(self.record, metadata={**self.record.metadata, "paused": paused})

    async def register(self, *, gives_up: Callable[[], bool]) -> bool:
        """Register, for as long as that takes; False if given up. Raises SchemaError."""
        while not gives_up():
            record = self.record
            try:
                await self._backend.register_worker(record, names=self._tasks.names(), defaults=self._defaults())
            except SchemaError:
                raise
            except DatabaseError as error:
                self._outage.lost(error)
                await self._outage.pause()
                continue
            self._outage.back(writing=True)
            if record is self.record:  # else it was swept, or paused, while it registered
                self._registered = record
                return True
        return False

    async def mark_stopping(self, timeout_s: float) -> None:
        """Show a drain to others; it goes on without that."""
        if timeout_s <= 0 or self._outage.is_on:
            return
        with contextlib.suppress(DatabaseError, TimeoutError):
            await _within(timeout_s, self._backend.set_worker_status([self.record.id], WorkerStatus.STOPPING))

    async def mark_stopped(self, timeout_s: float) -> None:
        """Deregister; jobs that are still held, for whatever reason, go back in the same transaction."""
        end = time.monotonic() + timeout_s
        while (left_s := end - time.monotonic()) > 0:
            try:
                await _within(
                    left_s,
                    self._backend.release_workers(
                        [self.record.id], cause="interrupted", max_crashes=self._options.max_crashes
                    ),
                )
            except (DatabaseError, TimeoutError) as error:
                self._outage.lost(error)
                await self._outage.pause()
            else:
                return

    def _defaults(self) -> dict[str, TaskDefaults]:
        """Say how the tasks are declared, for those who know no more than a name."""
        return {task.name: self._described(task) for task in self._tasks}

    def _described(self, task: Task) -> TaskDefaults:
        names = argument_names(task.signature, task.args_model)
        return TaskDefaults(
            queue=task.queue,
            priority=task.priority,
            max_attempts=task.max_retries + 1,
            timeout_s=self._options.job_timeout_s if task.timeout_s is None else task.timeout_s,
            unique=task.unique,
            required=names.required,
            accepted=names.accepted,
        )


async def _within(timeout_s: float, call: Awaitable[object]) -> None:
    async with asyncio.timeout(timeout_s):
        await call
