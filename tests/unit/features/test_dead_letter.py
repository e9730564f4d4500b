from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from soniqd import Soniq
from soniqd.backends.memory import MemoryBackend
from soniqd.errors import InvalidArgumentsError
from soniqd.features import dead_letter
from soniqd.model import DeadLettered, ProcessIdentity, WorkerId, WorkerRecord

WORKER = WorkerId(str(uuid.uuid4()))
UNKNOWN = "00000000-0000-4000-8000-000000000000"  # a constant: pytest-xdist compares the names of tests


@pytest.fixture
async def app():
    app = Soniq(backend=MemoryBackend(), enqueue_validation="none")
    await app.backend.register_worker(
        WorkerRecord(WORKER, ProcessIdentity("machine", "host", "boot", 1, 1, 1), (), 1), names=[]
    )
    return app


async def fail(app, name="a.b", reason="max_retries_exceeded", **options) -> str:
    job_id: str = await app.enqueue(name, number=1, **options)
    (job,) = await app.backend.claim(WORKER, names=None, queues=None, limit=1)
    await app.backend.complete([DeadLettered(job.fence, reason, "it broke")])
    return job_id


async def test_dead_letters_are_listed_newest_first_under_both_names(app):
    one, two = await fail(app), await fail(app)
    assert [row["id"] for row in await app.dead_letter.list()] == [two, one]
    assert [row["id"] for row in await app.dead_letter.list_jobs(limit=1, offset=1)] == [one]


async def test_dead_letters_are_narrowed(app):
    one = await fail(app, "a.b", queue="mail")
    two = await fail(app, "a.c", reason="timeout")
    tomorrow = datetime.now(UTC) + timedelta(days=1)

    async def found(**where):
        return [row["id"] for row in await app.dead_letter.list(**where)]

    assert await found(job_name="a.b") == [one]
    assert await found(queue="mail") == [one]
    assert await found(reason="timeout") == [two]
    assert await found(since=tomorrow) == []
    assert await found(until=tomorrow) == [two, one]
    assert await found(replayed=True) == []


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ({"limit": -1}, "limit must be"),
        ({"since": "yesterday"}, "since must be a datetime with a timezone"),
        ({"tag": "x"}, "cannot list dead letters by tag"),
    ],
)
async def test_wrong_filters_are_refused(app, where, problem):
    with pytest.raises(InvalidArgumentsError, match=problem):
        await app.dead_letter.list(**where)


async def test_one_dead_letter_is_shown_with_what_it_was(app):
    job_id = await fail(app)
    row = await app.dead_letter.get(job_id)
    assert (row["job_name"], row["args"], row["last_error"]) == ("a.b", {"number": 1}, "it broke")
    assert (await app.get_job(job_id))["status"] == "dead_letter"


@pytest.mark.parametrize("job_id", [UNKNOWN, "no-id"])
async def test_what_is_not_there_is_nothing(app, job_id):
    assert await app.dead_letter.get(job_id) is None
    assert await app.dead_letter.replay(job_id) is None
    assert await app.dead_letter.delete(job_id) is False


async def test_a_replay_is_a_fresh_job_and_leaves_the_dead_letter(app):
    job_id = await fail(app, queue="mail", priority=7)
    new_id = await app.dead_letter.replay(job_id)
    job = await app.get_job(new_id)
    assert new_id != job_id
    assert (job["status"], job["attempts"], job["args"]) == ("queued", 0, {"number": 1})
    assert (job["queue"], job["priority"]) == ("mail", 7)
    assert (await app.dead_letter.get(job_id))["resurrection_count"] == 1


async def test_a_replay_may_be_otherwise_than_before(app):
    new_id = await app.dead_letter.replay(await fail(app), queue="slow", priority=1, max_attempts=9)
    job = await app.get_job(new_id)
    assert (job["queue"], job["priority"], job["max_attempts"]) == ("slow", 1, 9)


@pytest.mark.parametrize("wrong", [{"queue": ""}, {"priority": "high"}, {"max_attempts": 0}])
async def test_wrong_values_for_a_replay_are_refused(app, wrong):
    job_id = await fail(app)
    with pytest.raises(InvalidArgumentsError, match="cannot replay"):
        await app.dead_letter.replay(job_id, **wrong)
    with pytest.raises(InvalidArgumentsError, match="cannot replay"):
        await app.dead_letter.replay_many([job_id], **wrong)


async def test_several_are_replayed_and_the_missing_are_named(app):
    one, two = await fail(app), await fail(app)
    report = await app.dead_letter.replay_many([one, two, one, UNKNOWN, "no-id"])
    assert (report.matched, report.missing) == ((one, two), (UNKNOWN, "no-id"))
    assert set(report.replayed) == {one, two}
    assert len(await app.list_jobs(status="queued")) == 2


async def test_a_dry_run_replays_nothing(app):
    one, two = await fail(app), await fail(app)
    many = await app.dead_letter.replay_many([one, UNKNOWN], dry_run=True)
    assert (many.matched, many.missing, many.replayed) == ((one,), (UNKNOWN,), {})
    everything = await app.dead_letter.replay_all(dry_run=True)
    assert (everything.matched, everything.replayed) == ((one, two), {})
    assert await app.list_jobs(status="queued") == []


async def test_all_that_match_are_replayed_however_many_pages_they_are(app, monkeypatch):
    monkeypatch.setattr(dead_letter, "_PAGE", 2)
    ids = [await fail(app) for _ in range(5)]
    other = await fail(app, "x.y")
    report = await app.dead_letter.replay_all(job_name="a.b", replayed=False)
    assert report.matched == tuple(ids)
    assert len(report.replayed) == 5
    assert (await app.dead_letter.replay_all(replayed=False)).matched == (other,)


async def test_a_dead_letter_can_be_deleted_once(app):
    job_id = await fail(app)
    assert await app.dead_letter.delete(job_id) is True
    assert await app.dead_letter.delete(job_id) is False
