"""Life of a daemon when its database is away, restarts, or was never set up."""

from __future__ import annotations

import signal
from collections import Counter

from soniqd import Soniq
from tests.daemon.test_daemon_crashes import APPEND_THEN_SLEEP, runs
from tests.support.daemon import Daemon
from tests.support.postgres import PostgresServer


async def test_a_daemon_starts_and_answers_while_its_database_is_down_and_works_when_it_is_back(
    tmp_path, own_postgres: PostgresServer
):
    url = own_postgres.url("postgres")
    async with Soniq(database_url=url, enqueue_validation="none", pool_min_size=1) as app:
        daemon = Daemon(tmp_path, jobs=APPEND_THEN_SLEEP, database_url=url)
        await app.setup()
        out = tmp_path / "runs"
        await app.enqueue("mark", args={"path": str(out), "text": "early"})
        own_postgres.stop("immediate")
        try:
            daemon.start()

            async def waits() -> bool:
                try:
                    status = await daemon.status()
                except OSError:
                    return False
                return status["database"] == "down" and (await daemon.child("default/1"))["pid"] is not None

            await daemon.eventually(waits)
            own_postgres.start()
            await daemon.ready()
            await daemon.eventually(lambda: runs(out))
            await daemon.log_event("database_up")
            assert (await daemon.status())["database"] == "up"
            assert await daemon.stop() == 0
            await daemon.gone()
        finally:
            daemon._end_everything()


async def test_dead_rows_are_removed_as_jobs_end(tmp_path, postgres_url, postgres_server):
    """Autovacuum looks once a minute: at 15,000 jobs a second it met two million dead rows."""
    name = postgres_url.rpartition("/")[2]
    postgres_server.execute("ALTER TABLE soniq_jobs SET (autovacuum_enabled = off)", database=name)
    vacuums = "SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'soniq_jobs'"
    async with (
        Soniq(database_url=postgres_url, enqueue_validation="none", pool_min_size=1) as app,
        Daemon(tmp_path, database_url=postgres_url) as daemon,
    ):
        await app.enqueue_many("noop", [{}] * 20_000)
        await daemon.eventually(lambda: postgres_server.execute(vacuums, database=name) > [(0,)], timeout_s=60)
        assert (await daemon.status())["database"] == "up"


async def test_a_database_without_tables_is_reported_and_waited_for(tmp_path, empty_postgres_url):
    daemon = Daemon(tmp_path, database_url=empty_postgres_url)
    daemon.start()
    try:
        await daemon.log.wait_for("daemon_started")
        await daemon.log_event("schema_unusable", slot="default/1")
        status = await daemon.status()
        assert status["database"] == "down"
        assert status["database_problem"] == 'cannot use the database: it has no tables of soniqd; run "soniqctl setup"'
        errors = [record["event"] for record in daemon.log.records if record["level"] == "ERROR"]
        assert errors == ["database_unusable"]
        assert not [record for record in daemon.log.records if record["event"] == "database_up"]
        await daemon.soniqctl("setup")
        await daemon.log_event("database_up")
        await daemon.ready(timeout_s=30)
        assert await daemon.stop() == 0
        await daemon.gone()
    finally:
        daemon._end_everything()


async def test_an_immediate_restart_of_postgresql_under_load_loses_nothing_and_ends_no_process(
    tmp_path, own_postgres: PostgresServer
):
    url = own_postgres.url("postgres")
    out = tmp_path / "runs"
    async with (
        Daemon(
            tmp_path, jobs=APPEND_THEN_SLEEP, database_url=url, workers={"processes": 2, "concurrency": 10}
        ) as daemon,
        Soniq(database_url=url, enqueue_validation="none", pool_min_size=1) as app,
    ):
        pids = {child["pid"] for child in (await daemon.status())["children"]}
        total = 3000
        batch = [{"path": str(out), "text": str(n), "seconds": 0.005} for n in range(total)]
        await app.enqueue_many("mark", batch)
        await daemon.eventually(lambda: len(runs(out)) > total // 4)
        own_postgres.restart("immediate")
        await daemon.eventually(lambda: len({text for text, _, _ in runs(out)}) == total, timeout_s=60)

        async def all_done() -> bool:
            stats = await app.get_queue_stats()
            return sum(row["queued"] + row["processing"] for row in stats) == 0

        await daemon.eventually(all_done)
        assert {child["pid"] for child in (await daemon.status())["children"]} == pids
    again = {text: count for text, count in Counter(text for text, _, _ in runs(out)).items() if count > 1}
    assert again == {}


async def test_a_worker_killed_while_the_database_is_away_has_its_jobs_released_when_it_is_back(
    tmp_path, own_postgres: PostgresServer
):
    url = own_postgres.url("postgres")
    out = tmp_path / "runs"
    async with (
        Daemon(tmp_path, jobs=APPEND_THEN_SLEEP, database_url=url) as daemon,
        Soniq(database_url=url, enqueue_validation="none", pool_min_size=1) as app,
    ):
        job_id = await app.enqueue("mark", args={"path": str(out), "text": "a", "seconds": 2})
        await daemon.eventually(lambda: runs(out))
        pid = await daemon.pid_of("default/1")
        own_postgres.stop("immediate")
        await daemon.kill("default/1", signal.SIGKILL)
        await daemon.log_event("child_died", pid=pid)
        assert len(runs(out)) == 1
        own_postgres.start()
        await daemon.log_event("jobs_released")

        async def done() -> bool:
            job = await app.get_job(job_id)
            return job is not None and job["status"] == "done" and job["crashes"] == 1

        await daemon.eventually(done)
        assert len(runs(out)) == 2
