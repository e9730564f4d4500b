"""Which tasks workers know, and what those say that are up."""

from __future__ import annotations

from soniqd.backends import StorageBackend
from soniqd.model import TaskDefaults, WorkerStatus
from tests.backends.conformance.builders import worker, worker_record
from tests.support.waiting import eventually


async def test_the_tasks_of_all_that_are_not_stopped_are_known(backend: StorageBackend) -> None:
    assert await backend.known_tasks() == frozenset()
    one = await worker(backend, names=["send", "print"])
    await worker(backend, names=["print", "scan"])
    assert await backend.known_tasks() == {"send", "print", "scan"}
    await backend.set_worker_status([one], WorkerStatus.STOPPED)
    assert await backend.known_tasks() == {"print", "scan"}


async def test_only_those_are_listened_to_that_were_heard_of_lately(backend: StorageBackend) -> None:
    said = TaskDefaults(queue="mail")
    record = worker_record()
    await backend.register_worker(record, names=["send"], defaults={"send": said})
    assert await backend.task_defaults("send", heard_within_s=60.0) == said

    async def is_unheard() -> bool:
        return await backend.task_defaults("send", heard_within_s=0.02) is None

    await eventually(is_unheard)
    assert await backend.task_defaults("send") == said
    await backend.heartbeat([record.id])
    assert await backend.task_defaults("send", heard_within_s=5.0) == said
