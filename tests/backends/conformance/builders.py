"""Short ways to make the values that a backend is fed with."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Collection, Sequence
from typing import Any

from soniqd.backends import StorageBackend
from soniqd.model import ClaimedJob, Done, JobId, JobRecord, NewJob, ProcessIdentity, WorkerId, WorkerRecord

NewView = Callable[[], StorageBackend]
"""Makes another backend that sees the same store."""


def new_id() -> str:
    return str(uuid.uuid4())


def job(name: str = "task", **changes: Any) -> NewJob:
    return NewJob(**{"id": JobId(new_id()), "name": name, "args_json": "{}"} | changes)


def unique_job(name: str = "task", args: dict[str, Any] | None = None, **changes: Any) -> NewJob:
    text = json.dumps(args or {}, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return job(name, args_json=text, unique=True, args_hash=digest, **changes)


def worker_record(**changes: Any) -> WorkerRecord:
    process = ProcessIdentity("machine", "host", "boot", 4026531836, 4711, 12345)
    values: dict[str, Any] = {"id": WorkerId(new_id()), "process": process, "queues": (), "concurrency": 10}
    return WorkerRecord(**values | changes)


async def worker(backend: StorageBackend, names: Collection[str] = ("task",), **changes: Any) -> WorkerId:
    """Register an active worker and return its id."""
    record = worker_record(**changes)
    await backend.register_worker(record, names=names)
    return record.id


async def claim(
    backend: StorageBackend,
    worker_id: WorkerId,
    *,
    names: Sequence[str] | None = None,
    queues: Sequence[str] | None = None,
    limit: int = 100,
) -> list[ClaimedJob]:
    """Claim until nothing is left or ``limit`` is reached: one claim may stop at a queue's end."""
    taken: list[ClaimedJob] = []
    while len(taken) < limit:
        more = await backend.claim(worker_id, names=names, queues=queues, limit=limit - len(taken))
        if not more:
            break
        taken += more
    return taken


async def claim_one(backend: StorageBackend, worker_id: WorkerId) -> ClaimedJob:
    [claimed] = await backend.claim(worker_id, names=None, queues=None, limit=1)
    return claimed


async def claimed_job(backend: StorageBackend, **changes: Any) -> ClaimedJob:
    """Store one job and claim it with a new worker."""
    await backend.enqueue([job(**changes)])
    return await claim_one(backend, await worker(backend))


def done(claimed: ClaimedJob, result: Any = None, *, ttl_s: float = 300.0) -> Done:
    return Done(claimed.fence, None if result is None else json.dumps(result), ttl_s)


async def record(backend: StorageBackend, job_id: str) -> JobRecord:
    found = await backend.get_job(JobId(job_id))
    assert found is not None, f"job {job_id} is gone"
    return found


def ids(claimed: Sequence[ClaimedJob]) -> list[str]:
    return [one.fence.job_id for one in claimed]
