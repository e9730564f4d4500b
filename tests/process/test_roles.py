import asyncio
import json
import signal
import time
import uuid
from dataclasses import replace
from typing import Any

import pytest

from soniqd.backends.factory import create_backend
from soniqd.control import link
from soniqd.model import JobId, NewJob, WorkerId
from soniqd.settings import DatabaseTable, SweepTable
from tests.support.proc_files import private_mib
from tests.support.waiting import eventually, eventually_sync

JOBS = """
import asyncio, os, pathlib, threading, time
from soniqd import Soniq

app = Soniq()
HERE = pathlib.Path(__file__).parent

def note(what):
    (HERE / f"{what}.{os.getpid()}").touch()

@app.job(name="mark")
async def mark(n):
    note(f"ran-{n}")

@app.job(name="wait")
async def wait(tag):
    note(f"began-{tag}")
    while not (HERE / f"go-{tag}").exists():
        await asyncio.sleep(0.01)
    note(f"ended-{tag}")

@app.job(name="hang")
def hang():
    note("began-hang")
    threading.Event().wait()

@app.job(name="block")
async def block():
    note("began-block")
    while True:
        time.sleep(0.2)

@app.job(name="chain")
async def chain():
    await mark.enqueue(n="chained")

@app.periodic(every=1, name="tick_tock")
async def tick_tock():
    note("tock")
"""


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    if request.param == "postgres":
        return request.getfixturevalue("postgres_url")
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
async def store(url):
    """The database, seen from the master."""
    backend = create_backend(url)
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
def boot(masters, write_module, settings_for, url):
    """Boot a fork server with the jobs of this file over the test's database."""

    def boot(**tables):
        write_module("chores", JOBS)
        master = masters(settings_for("chores", **{"url": url, **tables}))
        master.booted()
        return master

    return boot


@pytest.fixture
def noted(tmp_path):
    """How often something was noted by jobs."""
    return lambda what: len(list(tmp_path.glob(f"{what}.*")))


async def enqueue(store, name, **args) -> JobId:
    job_id = JobId(str(uuid.uuid4()))
    await store.enqueue([NewJob(job_id, name, json.dumps(args))])
    return job_id


async def in_thread(function, *args, **kwargs):
    return await asyncio.to_thread(function, *args, **kwargs)


async def test_workers_of_one_fork_server_run_every_job_once(boot, store, tmp_path, noted):
    master = boot()
    workers = [master.fork(index=index) for index in (1, 2, 3)]
    for number in range(60):
        await enqueue(store, "mark", n=number)
    for worker in workers:
        worker.hear(link.Ready, pid=worker.pid)
        worker.tell(link.Wake())
    await eventually(lambda: noted("ran-*") == 60)
    for worker in workers:
        worker.tell(link.Drain(5.0))
    assert [await in_thread(worker.wait) for worker in workers] == [0, 0, 0]
    assert noted("ran-*") == 60
    stats = {row["queue"]: row for row in await store.queue_stats()}
    assert stats["default"]["done"] == 60


async def test_a_killed_workers_job_runs_again_once_its_incarnation_is_released(boot, store, tmp_path, noted):
    master = boot()
    job_id = await enqueue(store, "wait", tag="it")
    victim = master.fork()
    await eventually(lambda: noted("began-it") == 1)
    victim.kill()
    assert victim.wait() == -signal.SIGKILL
    report = await store.release_workers([WorkerId(victim.spec.worker_id)], cause="crash", max_crashes=3)
    assert report.requeued == (job_id,)
    (tmp_path / "go-it").touch()
    heir = master.fork(index=2)
    await eventually(lambda: noted("ended-it") == 1)
    heir.tell(link.Drain(5.0))
    heir.wait()
    job = await store.get_job(job_id)
    assert (job["status"], job["crashes"]) == ("done", 1)


async def test_without_its_master_a_worker_finishes_its_job_keeps_alive_and_leaves(boot, store, tmp_path, noted):
    worker = boot(sweep=SweepTable(heartbeat_interval=0.05)).fork(drain_timeout_s=20.0)
    job_id = await enqueue(store, "wait", tag="it")
    worker.hear(link.Ready)
    worker.tell(link.Wake())
    await eventually(lambda: noted("began-it") == 1)

    async def age_s() -> float:
        (row,) = await store.list_workers()
        return row.heartbeat_age_s

    worker.hang_up()
    until = time.monotonic() + 1.0
    await eventually(lambda: time.monotonic() > until)
    assert await age_s() < 0.9
    (tmp_path / "go-it").touch()
    assert await in_thread(worker.wait) == 0
    assert (await store.get_job(job_id))["status"] == "done"
    assert await store.list_workers() == []


async def test_sigterm_lets_a_job_finish_then_the_worker_says_goodbye(boot, store, tmp_path, noted):
    worker = boot().fork(drain_timeout_s=20.0)
    await enqueue(store, "wait", tag="it")
    worker.hear(link.Ready)
    worker.tell(link.Wake())
    await eventually(lambda: noted("began-it") == 1)
    worker.kill(signal.SIGTERM)
    worker.hear(link.State, phase="draining")
    (tmp_path / "go-it").touch()
    *_, last = await in_thread(worker.hear_rest)
    assert last == link.Leaving("SIGTERM", unfinished=0)
    assert worker.wait() == 0
    assert noted("ended-it") == 1


@pytest.mark.parametrize("signals", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGQUIT,)])
async def test_leaving_now_gives_the_job_back_without_using_an_attempt(boot, store, noted, signals):
    worker = boot().fork(drain_timeout_s=60.0)
    job_id = await enqueue(store, "wait", tag="it")
    worker.hear(link.Ready)
    worker.tell(link.Wake())
    await eventually(lambda: noted("began-it") == 1)
    for number, signum in enumerate(signals):
        if number:
            worker.hear(link.State, phase="draining")
        worker.kill(signum)
    before = time.monotonic()
    *_, last = await in_thread(worker.hear_rest)
    assert isinstance(last, link.Leaving)
    assert last.unfinished == 1
    assert worker.wait() == 0
    assert time.monotonic() - before < 3
    job = await store.get_job(job_id)
    assert (job["status"], job["attempts"], job["crashes"], job["interruptions"]) == ("queued", 0, 0, 1)


async def test_a_drain_gives_back_what_does_not_finish_in_time(boot, store, noted):
    worker = boot().fork()
    job_id = await enqueue(store, "wait", tag="it")
    worker.hear(link.Ready)
    worker.tell(link.Wake())
    await eventually(lambda: noted("began-it") == 1)
    worker.tell(link.Drain(0.2))
    assert await in_thread(worker.wait) == 0
    assert (await store.get_job(job_id))["status"] == "queued"


async def test_a_handler_thread_that_never_ends_does_not_keep_the_process(boot, store, noted):
    worker = boot().fork()
    job_id = await enqueue(store, "hang")
    worker.hear(link.Ready)
    worker.tell(link.Wake())
    await eventually(lambda: noted("began-hang") == 1)
    worker.tell(link.Drain(0.2))
    assert await in_thread(worker.wait) == 75  # the master gives its job back now
    assert (await store.get_job(job_id))["status"] == "processing"


async def test_a_worker_whose_loop_stands_still_does_not_outlive_its_master_for_long(boot, store, noted):
    master = boot()
    worker = master.fork(drain_timeout_s=0.2)
    await enqueue(store, "block")
    worker.hear(link.Ready)
    worker.tell(link.Wake())
    await eventually(lambda: noted("began-block") == 1)
    worker.hang_up()
    assert await in_thread(worker.wait, timeout_s=8) == 1
    assert "in block" in master.stderr  # the stacks that the guard left behind


async def test_abort_dumps_every_stack(boot, store, noted):
    master = boot()
    worker = master.fork()
    await enqueue(store, "block")
    worker.hear(link.Ready)
    worker.tell(link.Wake())
    await eventually(lambda: noted("began-block") == 1)
    worker.kill(signal.SIGABRT)
    assert worker.wait() == -signal.SIGABRT
    assert "in block" in worker.stacks


async def test_a_paused_worker_claims_nothing_until_resumed(boot, store, noted):
    worker = boot().fork()
    worker.hear(link.Ready)
    worker.tell(link.Pause())
    worker.hear(link.State, phase="paused")
    await enqueue(store, "mark", n=1)
    worker.tell(link.Wake())
    worker.tell(link.Resume())
    worker.hear(link.State, phase="running")
    await eventually(lambda: noted("ran-1") == 1)


async def test_a_wake_is_answered_long_before_the_poll(boot, store, noted):
    worker = boot(jobs={"poll_interval": 600}).fork()
    worker.hear(link.Ready)
    await eventually(lambda: worker.tick > 1)
    await enqueue(store, "mark", n=1)
    worker.tell(link.Wake())
    await eventually(lambda: noted("ran-1") == 1, timeout_s=5)


async def test_states_come_at_most_four_times_a_second(boot, store, noted):
    master = boot()
    for number in range(400):
        await enqueue(store, "mark", n=number)
    before = time.monotonic()
    worker = master.fork(concurrency=2)
    worker.hear(link.State, done=400)
    seconds = time.monotonic() - before
    phases = 2  # starting, running: a new phase does not wait
    assert sum(isinstance(message, link.State) for message in worker.heard) <= 4 * seconds + 1 + phases


async def test_a_job_can_enqueue_another_one(boot, store, noted):
    worker = boot().fork()
    await enqueue(store, "chain")
    worker.hear(link.Ready)
    worker.tell(link.Wake())
    await eventually(lambda: worker.tell(link.Wake()) or noted("ran-chained") == 1)


async def test_sigint_and_sighup_are_the_masters(boot, store):
    worker = boot().fork()
    worker.hear(link.Ready)
    worker.kill(signal.SIGINT)
    worker.kill(signal.SIGHUP)
    ticks = worker.tick
    await eventually(lambda: worker.tick > ticks + 1)
    worker.tell(link.Drain(1.0))
    *_, last = await in_thread(worker.hear_rest)
    assert last == link.Leaving("drained by the master")


async def test_the_title_says_what_a_worker_does(boot, store, tmp_path, noted):
    worker = boot().fork(index=2)
    await enqueue(store, "wait", tag="it")
    worker.hear(link.Ready)
    await eventually(lambda: worker.title == "soniqd: worker default/2 [idle]" or worker.title.endswith("[1 running]"))
    worker.tell(link.Wake())
    await eventually(lambda: worker.title == "soniqd: worker default/2 [1 running]")
    (tmp_path / "go-it").touch()
    await eventually(lambda: worker.title == "soniqd: worker default/2 [idle]")


async def test_workers_are_registered_as_supervised_with_slot_and_identity(boot, store):
    worker = boot().fork(concurrency=3, queues=("mail",))
    worker.hear(link.Ready)
    (row,) = await store.list_workers()
    assert (row.id, row.slot, row.supervised) == (worker.spec.worker_id, "default/1", True)
    assert (row.concurrency, row.queues, row.process.pid) == (3, ("mail",), worker.pid)
    assert row.process.start_ticks > 0


async def test_a_scheduler_leads_and_enqueues_each_tick(boot, store):
    scheduler = boot().fork("scheduler")
    scheduler.hear(link.Ready)
    await eventually(lambda: scheduler.title == "soniqd: scheduler [leading]")

    async def two_ticks() -> Any:
        (schedule,) = await store.list_schedules()
        return schedule.run_count >= 2

    await eventually(two_ticks)
    scheduler.kill(signal.SIGTERM)
    assert await in_thread(scheduler.wait) == 0


async def test_a_second_scheduler_follows_and_takes_over(boot, store):
    master = boot()
    first = master.fork("scheduler")
    first.hear(link.State, phase="leading")
    second = master.fork("scheduler", index=2)
    second.hear(link.State, phase="following")
    first.kill()
    first.wait()
    second.hear(link.State, phase="leading", timeout_s=5)


class TestPostgresOnly:
    @pytest.fixture
    def url(self, postgres_url):
        return postgres_url

    async def test_a_pool_too_small_is_a_configuration_error(self, masters, write_module, settings_for, url):
        write_module("chores", JOBS)
        settings = replace(settings_for("chores"), database=DatabaseTable(url=url, pool_max_size=5))
        master = masters(settings)
        master.booted()
        worker = master.fork(concurrency=10)
        assert await in_thread(worker.wait) == 78
        assert "Connection pool too small" in master.stderr

    async def test_a_database_that_is_away_is_waited_for(self, masters, write_module, settings_for):
        write_module("chores", JOBS)
        master = masters(settings_for("chores", url="postgresql://nobody:hunter2@127.0.0.1:1/none"))
        master.booted()
        worker = master.fork()
        worker.hear(link.State, phase="waiting_for_database")
        eventually_sync(lambda: "default/1 waits for the database" in master.stderr)
        ticks = worker.tick
        await eventually(lambda: worker.tick > ticks + 3)
        assert master.stderr.count("waits for the database") == 1
        assert "hunter2" not in master.stderr
        worker.kill(signal.SIGTERM)
        assert await in_thread(worker.wait) == 0

    async def test_a_missing_schema_is_said_once_and_waited_for(
        self, masters, write_module, settings_for, empty_postgres_url
    ):
        write_module("chores", JOBS)
        master = masters(settings_for("chores", url=empty_postgres_url))
        master.booted()
        worker = master.fork()
        await eventually(lambda: "soniqctl setup" in master.stderr)
        ticks = worker.tick
        await eventually(lambda: worker.tick > ticks + 3)
        assert master.stderr.count("soniqctl setup") == 1
        backend = create_backend(empty_postgres_url)
        await backend.setup()
        await backend.close()
        worker.hear(link.Ready)

    async def test_an_idle_worker_is_small(self, boot):
        worker = boot().fork()
        worker.hear(link.Ready)
        await eventually(lambda: worker.tick > 3)
        assert private_mib(worker.pid) < 12
