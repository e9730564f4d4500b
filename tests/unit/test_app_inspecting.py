from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

import pytest
from pydantic import BaseModel, ValidationError

from soniqd import JobStatus, Soniq
from soniqd.backends.memory import MemoryBackend
from soniqd.errors import InvalidArgumentsError
from soniqd.model import Done, ProcessIdentity, WorkerId, WorkerRecord

WORKER = WorkerId(str(uuid.uuid4()))
UNKNOWN = "00000000-0000-4000-8000-000000000000"  # a constant: pytest-xdist compares the names of tests


@pytest.fixture
async def app():
    app = Soniq(backend=MemoryBackend(), enqueue_validation="none")
    await app.backend.register_worker(
        WorkerRecord(WORKER, ProcessIdentity("machine", "host", "boot", 1, 1, 1), (), 1), names=["a.b"]
    )
    return app


async def finish(app, job_id, result_json):
    (job,) = await app.backend.claim(WORKER, names=None, queues=None, limit=1)
    assert job.fence.job_id == job_id
    await app.backend.complete([Done(job.fence, result_json, 60.0)])


async def test_a_job_is_found_by_its_id_in_every_form(app):
    job_id = await app.enqueue("a.b", number=1)
    for form in (job_id, job_id.upper(), uuid.UUID(job_id)):
        job = await app.get_job(form)
        assert job["id"] == job_id
        assert job["args"] == {"number": 1}


@pytest.mark.parametrize("job_id", [UNKNOWN, "no-id", ""])
async def test_a_job_that_is_not_there_is_nothing(app, job_id):
    assert await app.get_job(job_id) is None
    assert await app.get_result(job_id) is None
    assert await app.cancel_job(job_id) is False
    assert await app.delete_job(job_id) is False


async def test_a_result_is_there_once_the_job_is_done(app):
    job_id = await app.enqueue("a.b")
    assert await app.get_result(job_id) is None
    await finish(app, job_id, '{"total": 3}')
    assert await app.get_result(job_id) == {"total": 3}


class Total(BaseModel):
    total: int


@dataclass
class When:
    at: datetime


async def test_a_result_can_become_a_model(app):
    first, second = await app.enqueue("a.b"), await app.enqueue("a.b")
    await finish(app, first, '{"total": 3}')
    await finish(app, second, '{"at": "2026-01-02T03:04:05+00:00"}')
    assert await app.get_result(first, result_model=Total) == Total(total=3)
    assert (await app.get_result(second, result_model=When)).at.year == 2026
    with pytest.raises(ValidationError):
        await app.get_result(second, result_model=Total)


async def test_a_queued_job_can_be_cancelled_once(app):
    job_id = await app.enqueue("a.b")
    assert await app.cancel_job(job_id) is True
    assert await app.cancel_job(job_id) is False
    assert (await app.get_job(job_id))["status"] == "cancelled"


async def test_a_job_can_be_deleted_once(app):
    job_id = await app.enqueue("a.b")
    assert await app.delete_job(job_id) is True
    assert await app.delete_job(job_id) is False


async def test_jobs_are_listed_by_queue_status_and_name(app):
    one = await app.enqueue("a.b", queue="mail")
    two = await app.enqueue("a.c")
    await app.cancel_job(two)
    assert [job["id"] for job in await app.list_jobs()] == [two, one]
    assert [job["id"] for job in await app.list_jobs("mail")] == [one]
    assert [job["id"] for job in await app.list_jobs(status="cancelled")] == [two]
    assert [job["id"] for job in await app.list_jobs(status=JobStatus.QUEUED)] == [one]
    assert [job["id"] for job in await app.list_jobs(name="a.c")] == [two]
    assert [job["id"] for job in await app.list_jobs(limit=1, offset=1)] == [one]


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ({"status": "failed"}, "status must be one of queued, processing, done, cancelled, dead_letter, not 'failed'"),
        ({"limit": -1}, "limit must be a whole number from 0"),
        ({"offset": "2"}, "offset must be a whole number from 0"),
    ],
)
async def test_wrong_filters_are_refused(app, where, problem):
    with pytest.raises(InvalidArgumentsError, match=f"cannot list jobs: {problem}"):
        await app.list_jobs(**where)


async def test_queue_stats_are_a_list_sorted_by_queue(app):
    for queue in ("b", "a", "b"):
        await app.enqueue("a.b", queue=queue)
    assert [(stats["queue"], stats["queued"], stats["total"]) for stats in await app.get_queue_stats()] == [
        ("a", 1, 1),
        ("b", 2, 2),
    ]


async def test_a_queue_can_be_paused_and_resumed(app):
    await app.enqueue("a.b", queue="mail")
    assert await app.pause_queue("mail") is True
    assert await app.pause_queue("mail") is False
    assert [(queue.name, queue.paused) for queue in await app.list_queues()] == [("mail", True)]
    assert await app.resume_queue("mail") is True
    assert await app.resume_queue("mail") is False


@pytest.mark.parametrize("verb", ["pause", "resume"])
async def test_what_is_no_queue_cannot_be_paused(app, verb):
    with pytest.raises(InvalidArgumentsError, match=f"cannot {verb} a queue"):
        await getattr(app, f"{verb}_queue")("")
