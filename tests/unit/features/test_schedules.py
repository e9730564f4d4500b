from __future__ import annotations

from datetime import timedelta

import pytest

from soniqd import Soniq, task_ref
from soniqd.backends.memory import MemoryBackend
from soniqd.errors import ConfigurationError, InvalidArgumentsError, UnknownTaskError


@pytest.fixture
def app():
    app = Soniq(backend=MemoryBackend())

    @app.job(name="stats.refresh", queue="slow", priority=3, retries=1)
    def refresh(day=1): ...

    return app


async def test_a_schedule_takes_what_its_task_says(app):
    before = await app.backend.now()
    assert await app.scheduler.add("stats.refresh", name="nightly", every="1h", args={"day": 2}) == "nightly"
    record = await app.scheduler.get("nightly")
    spec = record.spec
    assert (spec.job_name, spec.type, spec.value, spec.args_json) == ("stats.refresh", "interval", "3600", '{"day":2}')
    assert (spec.queue, spec.priority, spec.max_attempts) == ("slow", 3, 2)
    assert timedelta(hours=1) <= record.next_run - before < timedelta(hours=1, minutes=1)
    assert not record.paused


async def test_without_a_target_the_name_is_the_tasks(app):
    assert await app.scheduler.add(name="stats.refresh", cron="0 9 * * *", timezone="Europe/Berlin") == "stats.refresh"
    (record,) = await app.scheduler.list()
    assert (record.spec.job_name, record.spec.value, record.spec.timezone) == (
        "stats.refresh",
        "0 9 * * *",
        "Europe/Berlin",
    )


async def test_without_a_name_the_schedule_is_named_like_the_task(app):
    assert await app.scheduler.add(task_ref("billing.close"), every=60, queue="billing", priority=9) == "billing.close"
    (record,) = await app.scheduler.list()
    assert (record.spec.queue, record.spec.priority, record.spec.max_attempts) == ("billing", 9, 4)


async def test_adding_again_changes_the_schedule(app):
    await app.scheduler.add("stats.refresh", every=60)
    await app.scheduler.add("stats.refresh", every=3600)
    assert [record.spec.value for record in await app.scheduler.list()] == ["3600"]


async def test_a_schedule_can_be_paused_resumed_and_removed(app):
    name = await app.scheduler.add("stats.refresh", every=60)
    assert await app.scheduler.pause(name)
    assert (await app.scheduler.get(name)).paused
    assert await app.scheduler.resume(name)
    assert not (await app.scheduler.get(name)).paused
    assert await app.scheduler.remove(name)
    assert await app.scheduler.get(name) is None


async def test_what_is_not_there_cannot_be_steered(app):
    assert not await app.scheduler.pause("nothing")
    assert not await app.scheduler.resume("nothing")
    assert not await app.scheduler.remove("nothing")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ({"every": 60}, ConfigurationError),
        ({"target": "stats.refresh"}, ConfigurationError),
        ({"target": "stats.refresh", "cron": "nonsense"}, ConfigurationError),
        ({"target": "stats.refresh", "every": 60, "args": {"hour": 1}}, InvalidArgumentsError),
        ({"target": "stats.refresh", "every": 60, "queue": ""}, InvalidArgumentsError),
        ({"target": "no.such_task", "every": 60}, UnknownTaskError),
    ],
)
async def test_what_makes_no_schedule_is_refused(app, call, error):
    with pytest.raises(error):
        await app.scheduler.add(**call)
    assert await app.scheduler.list() == []
