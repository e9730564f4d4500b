"""``run_worker``: an application's jobs run in its own process."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest

from soniqd import JobContext, Snooze, Soniq
from soniqd.errors import ConfigurationError
from soniqd.model import WorkerStatus
from tests.support.waiting import eventually


@pytest.fixture
async def app():
    async with Soniq(backend="memory", result_ttl=60) as app:
        yield app


async def test_all_jobs_are_run_and_the_worker_ends(app):
    @app.job(name="double.it")
    async def double(number: int, ctx: JobContext) -> list[object]:
        return [number * 2, ctx.attempt, ctx.queue]

    @app.job(name="half.it")
    def half(number: int) -> float:
        return number / 2

    one, two = await double.enqueue(number=4), await half.enqueue(number=4)
    await app.run_worker(run_once=True)
    assert await app.get_result(one) == [8, 1, "default"]
    assert await app.get_result(two) == 2.0


async def test_without_any_task_there_is_nothing_to_run_once(app):
    await app.run_worker(run_once=True)
    assert await app.backend.list_workers(stopped=True) == []


async def test_a_job_enqueued_by_a_job_is_run_as_well(app):
    @app.job(name="first.step")
    async def first() -> str:
        return await app.enqueue("second.step")

    @app.job(name="second.step")
    async def second() -> str:
        return "done"

    job_id = await first.enqueue()
    await app.run_worker(run_once=True)
    assert await app.get_result(await app.get_result(job_id)) == "done"


@pytest.mark.parametrize("queues", [["mail"], ("mail",), "mail"])
async def test_only_the_given_queues_are_served(app, queues):
    @app.job(name="note.it")
    async def note() -> str:
        return "noted"

    mail, other = await app.enqueue(note, queue="mail"), await app.enqueue(note, queue="other")
    await app.run_worker(run_once=True, queues=queues)
    assert await app.get_result(mail) == "noted"
    assert (await app.get_job(other))["status"] == "queued"


async def test_hooks_middleware_and_metrics_see_each_run():
    seen = []

    class Sink:
        async def record_job_start(self, *, job_id, job_name, queue, attempt):
            seen.append(f"start {job_name} {attempt}")

        async def record_job_end(self, *, job_id, job_name, queue, status, duration_s, error=None):
            seen.append(f"end {status}")

    async with Soniq(backend="memory", metrics_sink=Sink()) as app:
        app.before_job(lambda args: seen.append(f"before {args}"))
        app.after_job(lambda result: seen.append(f"after {result}"))

        @app.middleware
        async def around(context, call_next):
            seen.append(f"around {context.job_name}")
            return await call_next(context)

        @app.job(name="note.it")
        async def note(number):
            return number + 1

        await note.enqueue(number=1)
        await app.run_worker(run_once=True)
    assert sorted(seen) == sorted(["start note.it 1", "before {'number': 1}", "around note.it", "after 2", "end done"])


async def test_a_job_that_keeps_failing_becomes_a_dead_letter_that_can_be_replayed(app):
    healed = False

    @app.job(name="fail.it", retries=1)
    async def fail():
        if not healed:
            raise RuntimeError("no luck")
        return "luck"

    errors = []
    app.on_error(lambda error: errors.append(str(error)))
    job_id = await fail.enqueue()
    await app.run_worker(run_once=True)
    (letter,) = await app.dead_letter.list()
    assert (letter["id"], letter["attempts"], len(errors)) == (job_id, 2, 2)
    assert all("no luck" in error for error in errors)

    healed = True
    new_id = await app.dead_letter.replay(job_id)
    await app.run_worker(run_once=True)
    assert await app.get_result(new_id) == "luck"


async def test_a_snoozed_job_uses_no_attempt(app):
    @app.job(name="later.please")
    async def later(ctx: JobContext):
        return Snooze(3600)

    job_id = await later.enqueue()
    await app.run_worker(run_once=True)
    job = await app.get_job(job_id)
    assert (job["status"], job["attempts"], job["scheduled_at"] is not None) == ("queued", 0, True)


async def test_the_longest_snooze_is_a_setting():
    async with Soniq(backend="memory", snooze_max_seconds=60) as app:

        @app.job(name="later.please")
        async def later():
            return Snooze(10**6)

        job_id = await later.enqueue()
        await app.run_worker(run_once=True)
        job = await app.get_job(job_id)
    assert job is not None
    assert job["scheduled_at"] is not None
    assert datetime.fromisoformat(job["scheduled_at"]) < datetime.now(UTC) + timedelta(seconds=61)


async def test_the_shutdown_event_drains(app):
    stop, started, finish = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @app.job(name="slow.task")
    async def slow():
        started.set()
        await finish.wait()
        return "finished"

    job_id = await slow.enqueue()
    worker = asyncio.create_task(app.run_worker(shutdown_event=stop))
    await started.wait()
    stop.set()

    async def drains():
        [row] = await app.backend.list_workers()
        return row.status == WorkerStatus.STOPPING

    await eventually(drains)
    waiting = await slow.enqueue()
    finish.set()
    await worker
    assert await app.get_result(job_id) == "finished"
    assert (await app.get_job(waiting))["status"] == "queued"


async def test_a_running_worker_hears_of_new_jobs(app):
    @app.job(name="note.it")
    async def note():
        return "noted"

    stop = asyncio.Event()
    worker = asyncio.create_task(app.run_worker(shutdown_event=stop))
    job_id = await note.enqueue()
    assert await eventually(lambda: app.get_result(job_id)) == "noted"
    stop.set()
    await worker


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"concurrency": "4"}, {"queues": [""]}])
async def test_wrong_values_are_refused(app, wrong):
    with pytest.raises(ConfigurationError, match="cannot run a worker"):
        await app.run_worker(run_once=True, **wrong)


async def test_a_pool_that_is_too_small_is_warned_of(postgres_url, caplog):
    async with Soniq(postgres_url, pool_min_size=1, pool_max_size=4, concurrency=3) as app:
        app.job(name="note.it")(lambda: None)
        with caplog.at_level(logging.WARNING, "soniqd"):
            await app.run_worker(run_once=True)
    (record,) = [record for record in caplog.records if getattr(record, "event", "") == "pool_too_small"]
    assert "Connection pool too small" in record.getMessage()


async def test_jobs_of_postgresql_are_run(postgres_url):
    async with Soniq(postgres_url, pool_min_size=1, pool_max_size=10) as app:

        @app.job(name="double.it")
        async def double(number):
            return number * 2

        ids = await app.enqueue_many(double, ({"number": number} for number in range(100)))
        await app.run_worker(run_once=True)
        assert [await app.get_result(job_id) for job_id in ids] == [number * 2 for number in range(100)]


async def test_jobs_of_sqlite_are_run(tmp_path):
    async with Soniq(str(tmp_path / "jobs.db")) as app:

        @app.job(name="double.it")
        async def double(number):
            return number * 2

        job_id = await double.enqueue(number=21)
        await app.run_worker(run_once=True)
        assert await app.get_result(job_id) == 42
