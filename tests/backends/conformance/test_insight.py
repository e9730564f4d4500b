"""What people ask: how much waits where, what a job waits for, what a task is like, who leads."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from soniqd.backends import StorageBackend
from soniqd.model import Backlog, JobFacts, JobId, QueueBacklog, TaskDefaults, WorkerStatus, insight
from tests.backends.conformance.builders import claim, claim_one, job, new_id, worker, worker_record
from tests.support.waiting import eventually


async def facts(backend: StorageBackend, job_id: str) -> JobFacts:
    found = await backend.job_facts(JobId(job_id))
    assert found is not None
    return found


def queue_of(backlog: Backlog, name: str) -> QueueBacklog:
    [found] = [queue for queue in backlog.queues if queue.queue == name]
    return found


async def test_an_empty_store_has_no_backlog(backend: StorageBackend) -> None:
    assert await backend.backlog() == Backlog()


async def test_each_queue_is_counted_by_what_becomes_of_its_jobs(backend: StorageBackend) -> None:
    await backend.enqueue([job(queue="a"), job(queue="a"), job(queue="a", delay_s=60.0), job(queue="b")])
    await backend.set_queue_paused("z", paused=True)
    taken = await claim(backend, await worker(backend), queues=["a"], limit=1)
    backlog = await backend.backlog()
    counted = [(one.queue, one.ready, one.processing, one.later, one.paused) for one in backlog.queues]
    assert counted == [("a", 1, len(taken), 1, False), ("b", 1, 0, 0, False), ("z", 0, 0, 0, True)]
    assert backlog.complete
    assert not any(one.ready_more or one.later_more for one in backlog.queues)


async def test_the_longest_wait_is_found_behind_better_priorities_and_other_tasks(backend: StorageBackend) -> None:
    await backend.enqueue([job(priority=500)])

    async def waits() -> bool:
        return (queue_of(await backend.backlog(), "default").oldest_s or 0.0) > 0.05

    await eventually(waits)
    await backend.enqueue([job(priority=1), job("other")])
    assert await waits()


async def test_a_queue_without_claimable_jobs_has_no_oldest(backend: StorageBackend) -> None:
    await backend.enqueue([job(delay_s=60.0)])
    assert queue_of(await backend.backlog(), "default").oldest_s is None


async def test_counts_stop(backend: StorageBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    count_to(backend, 3, monkeypatch)
    await backend.enqueue([job("unknown") for _ in range(5)])
    backlog = await backend.backlog()
    assert (queue_of(backlog, "default").ready, queue_of(backlog, "default").ready_more) == (3, True)
    assert dict(backlog.unclaimable) == {"unknown": 3}
    await backend.enqueue([job("known", queue="q", delay_s=60.0) for _ in range(5)])
    assert (queue_of(await backend.backlog(), "q").later, queue_of(await backend.backlog(), "q").later_more) == (
        3,
        True,
    )


def count_to(backend: StorageBackend, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = backend.capabilities.name
    module = f"soniqd.backends.{kind}.insight"
    monkeypatch.setattr(f"{module}.COUNTED_TO", number)
    monkeypatch.setattr(f"{module}.UNKNOWN_COUNTED_TO", number)
    if kind == "sqlite":
        monkeypatch.setattr(f"{module}._COUNTED", number + 1)
    if kind == "postgres":
        from soniqd.backends.postgres.insight import _BOUNDS

        monkeypatch.setattr(f"{module}._BOUNDS", {**_BOUNDS, "counted": number + 1})


async def test_names_that_nobody_knows_are_counted_whether_ready_or_for_later(backend: StorageBackend) -> None:
    await backend.enqueue([job("known"), job("unknown"), job("unknown", queue="q"), job("unknown", delay_s=60.0)])
    one = await worker(backend, names=["known"])
    assert dict((await backend.backlog()).unclaimable) == {"unknown": 3}
    await backend.set_worker_status([one], WorkerStatus.STOPPED)
    assert dict((await backend.backlog()).unclaimable) == {"known": 1, "unknown": 3}


async def test_nothing_is_known_of_a_job_that_never_was(backend: StorageBackend) -> None:
    assert await backend.job_facts(JobId(new_id())) is None


async def test_what_a_queued_job_waits_for(backend: StorageBackend) -> None:
    ours = job(queue="q", priority=10)
    await backend.enqueue([job(queue="q", priority=1), job(queue="q", priority=10), ours, job(queue="q", priority=10)])
    await backend.enqueue([job(queue="other", priority=1), job("unheard", queue="q", priority=1)])
    knows, stranger = await worker(backend), await worker(backend, names=["something"])
    found = await facts(backend, ours.id)
    assert found.record["id"] == ours.id
    assert found.ahead == 2
    assert not found.queue_paused
    assert {one.id for one in found.workers} == {knows, stranger}
    assert found.knowers == {knows}
    await backend.set_queue_paused("q", paused=True)
    assert (await facts(backend, ours.id)).queue_paused


async def test_jobs_are_ahead_only_of_what_can_be_claimed(backend: StorageBackend) -> None:
    later, held = job(delay_s=60.0), job()
    await backend.enqueue([later, held])
    await claim_one(backend, await worker(backend))
    assert (await facts(backend, later.id)).ahead is None
    assert (await facts(backend, held.id)).ahead is None


async def test_now_is_the_clock_that_the_times_of_the_job_are_from(backend: StorageBackend) -> None:
    from datetime import datetime

    one = job(delay_s=60.0)
    await backend.enqueue([one])
    found = await facts(backend, one.id)
    assert found.record["scheduled_at"] is not None
    left_s = (datetime.fromisoformat(found.record["scheduled_at"]) - found.now).total_seconds()
    assert 30 < left_s <= 60


async def test_stopped_workers_know_nothing(backend: StorageBackend) -> None:
    one = job()
    await backend.enqueue([one])
    gone = await worker(backend)
    await backend.set_worker_status([gone], WorkerStatus.STOPPED)
    found = await facts(backend, one.id)
    assert (found.workers, found.knowers, found.defaults) == ((), frozenset(), None)


async def test_why_a_job_was_buried_and_how_often_it_was_replayed(backend: StorageBackend) -> None:
    one = job()
    await backend.enqueue([one])
    claimed = await claim_one(backend, await worker(backend))
    await backend.release_workers([claimed.fence.worker_id], cause="crash", max_crashes=1, error="signal 9")
    found = await facts(backend, one.id)
    assert (found.record["status"], found.dead_letter_reason, found.replayed) == ("dead_letter", "worker_lost", 0)
    await backend.replay_dead_letter(one.id, JobId(new_id()))
    assert (await facts(backend, one.id)).replayed == 1


MAIL = TaskDefaults(queue="mail", priority=7, max_attempts=9, timeout_s=12.5, unique=True)


async def registered(backend: StorageBackend, defaults: dict[str, TaskDefaults], **changes: Any) -> Any:
    record = worker_record(**changes)
    await backend.register_worker(record, names=["send", "other"], defaults=defaults)
    return record


async def test_a_worker_says_how_its_tasks_are_declared(backend: StorageBackend) -> None:
    await registered(backend, {"send": MAIL})
    assert await backend.task_defaults("send") == MAIL
    assert await backend.task_defaults("other") is None
    assert await backend.task_defaults("unheard") is None
    one = job("send")
    await backend.enqueue([one])
    assert (await facts(backend, one.id)).defaults == MAIL


async def test_the_newest_worker_is_believed_and_then_the_next(backend: StorageBackend) -> None:
    await registered(backend, {"send": MAIL})
    newer = TaskDefaults(queue="newer")
    record = await registered(backend, {"send": newer})
    await worker(backend, names=["send"])
    assert await backend.task_defaults("send") == newer
    await backend.set_worker_status([record.id], WorkerStatus.STOPPED)
    assert await backend.task_defaults("send") == MAIL


async def test_workers_of_two_releases_are_asked_for_no_more_arguments_than_either_needs(
    backend: StorageBackend,
) -> None:
    await registered(backend, {"send": TaskDefaults(required=("to", "body"), accepted=("to", "body", "copies"))})
    await registered(backend, {"send": TaskDefaults(queue="newer", required=("to", "text"), accepted=("to", "text"))})
    said = await backend.task_defaults("send")
    assert said == TaskDefaults(queue="newer", required=("to",), accepted=("to", "text", "body", "copies"))
    await worker(backend, names=["send"])  # of a release that says nothing: it may take anything
    assert await backend.task_defaults("send") == TaskDefaults(queue="newer")


async def test_what_a_worker_says_can_change(backend: StorageBackend) -> None:
    record = await registered(backend, {"send": MAIL})
    await backend.register_worker(record, names=["send"], defaults={"send": TaskDefaults()})
    assert await backend.task_defaults("send") == TaskDefaults()
    await backend.register_worker(record, names=["send"])
    assert await backend.task_defaults("send") is None


async def test_the_leader_is_named_as_long_as_it_leads(backend: StorageBackend) -> None:
    assert await backend.leader("scheduler") is None
    leadership = backend.leadership("scheduler")
    assert await leadership.acquire()
    leader = await backend.leader("scheduler")
    assert leader == insight.LeaderRecord(socket.gethostname(), os.getpid())
    assert await backend.leader("something else") is None
    await leadership.release()
    assert await backend.leader("scheduler") is None


async def test_another_process_sees_the_same_leader(backend: StorageBackend, second_backend: StorageBackend) -> None:
    leadership = backend.leadership("scheduler")
    assert await leadership.acquire()
    assert await second_backend.leader("scheduler") == insight.LeaderRecord(socket.gethostname(), os.getpid())
    assert await leadership.held(), "asking takes nothing away"
    await leadership.release()
