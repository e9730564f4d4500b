"""Short ways to make what the PostgreSQL backend's tests feed it with."""

from __future__ import annotations

import uuid
from typing import Any

from soniqd.backends.postgres import PostgresBackend
from soniqd.model import ClaimedJob, JobId, NewJob, ProcessIdentity, WorkerId, WorkerRecord


def new_job(name: str = "task", **changes: Any) -> NewJob:
    return NewJob(**{"id": JobId(str(uuid.uuid4())), "name": name, "args_json": "{}"} | changes)


def new_worker(**changes: Any) -> WorkerRecord:
    process = ProcessIdentity("machine", "host", "boot", 4026531836, 4711, 12345)
    values: dict[str, Any] = {"id": WorkerId(str(uuid.uuid4())), "process": process, "queues": (), "concurrency": 10}
    return WorkerRecord(**values | changes)


async def registered(backend: PostgresBackend, *names: str) -> WorkerId:
    """Register an active worker for these tasks and return its id."""
    record = new_worker()
    await backend.register_worker(record, names=names or ("task",))
    return record.id


async def claim(backend: PostgresBackend, worker_id: WorkerId, limit: int = 100) -> list[ClaimedJob]:
    return await backend.claim(worker_id, names=None, queues=None, limit=limit)
