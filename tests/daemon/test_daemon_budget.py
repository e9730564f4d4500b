"""The budget of database connections: computed, checked against the server, and kept while children overlap."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
import pytest

from soniqd import Soniq
from soniqd.policy.connections import MASTER_CONNECTIONS, SCHEDULER_CONNECTIONS
from tests.support.daemon import BIN, Daemon
from tests.support.postgres import PostgresServer

HUNGRY = """
from soniqd import Soniq

app = Soniq()


@app.job(name="hungry")
async def hungry(seconds: float = 0.2):
    \"\"\"Holds a connection of the worker's pool.\"\"\"
    async with app.backend.acquire() as connection:
        await connection.execute(f"SELECT pg_sleep({{seconds}})")


VERSION = {version}
"""
CONCURRENCY = 3
WORKER = CONCURRENCY + 2
PROCESSES = 2
NEED = PROCESSES * WORKER + SCHEDULER_CONNECTIONS + MASTER_CONNECTIONS + WORKER
"""With one replacement beside them."""


class Census:
    """Counts the server's sessions in one database, by whom they belong to, many times a second."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self.most = 0
        self.looks = 0

    def run(self) -> None:
        name = self._url.rpartition("/")[2]
        statement = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend' "
            "AND application_name LIKE 'soniqd%%'"
        )
        with psycopg.connect(self._url.rpartition("/")[0] + "/postgres", autocommit=True) as connection:
            while not self._stop.wait(0.003):
                row = connection.execute(statement, (name,)).fetchone()
                assert row is not None
                self.most, self.looks = max(self.most, row[0]), self.looks + 1

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def census(url: str) -> Iterator[Census]:
    counting = Census(url)
    thread = threading.Thread(target=counting.run)
    thread.start()
    try:
        yield counting
    finally:
        counting.stop()
        thread.join()
    assert counting.looks > 100


@asynccontextmanager
async def load(url: str) -> AsyncIterator[None]:
    """More jobs all the time than the workers can run, produced by a process's worth of connections of another name."""
    async with Soniq(database_url=f"{url}?application_name=producer", enqueue_validation="none") as app:
        stop = asyncio.Event()

        async def produce() -> None:
            while not stop.is_set():
                for _ in range(PROCESSES * CONCURRENCY):
                    await app.enqueue("hungry", args={"seconds": 0.1})
                await asyncio.sleep(0.1)

        producer = asyncio.create_task(produce())
        try:
            yield
        finally:
            stop.set()
            await producer  # a load that has failed would prove nothing


def hungry(version: int = 1) -> str:
    return HUNGRY.format(version=version)


def config(bound: int | None = None) -> dict[str, Any]:
    return {
        "workers": {"processes": PROCESSES, "concurrency": CONCURRENCY},
        "database": {} if bound is None else {"max_connections": bound},
    }


async def test_the_bound_is_kept_through_reloads_under_a_load_that_uses_every_connection(tmp_path, postgres_url):
    async with Daemon(tmp_path, database_url=postgres_url, jobs=hungry(), **_at(postgres_url, NEED)) as daemon:
        with census(postgres_url) as counted:
            async with load(postgres_url):
                await daemon.eventually(lambda: counted.most >= NEED - WORKER - MASTER_CONNECTIONS)
                for version in range(2, 5):
                    daemon.write_jobs(hungry(version))
                    await daemon.soniqctl("reload")
                await daemon.soniqctl("restart")
        assert counted.most <= NEED
        assert counted.most > NEED - WORKER, "the replacement was never counted: the test would prove nothing"


def _at(url: str, bound: int) -> dict[str, Any]:
    tables = config(bound)
    return {**tables, "database": {**tables["database"], "url": url}}


async def test_several_groups_take_turns_where_the_bound_has_room_for_one_replacement(tmp_path, postgres_url):
    """All groups have a canary, only one of which fits at a time; each child opens all that it may at its start."""
    groups = [{"name": name, "processes": 2, "concurrency": 1} for name in ("one", "two", "three")]
    need = 6 * 3 + SCHEDULER_CONNECTIONS + MASTER_CONNECTIONS + 3
    tables: dict[str, Any] = {
        "workers": groups,
        "database": {"url": postgres_url, "max_connections": need, "pool_min_size": 20},
    }
    async with Daemon(
        tmp_path, database_url=postgres_url, jobs=hungry(), soniqd={"probation": 0.3}, **tables
    ) as daemon:
        with census(postgres_url) as counted:
            daemon.write_jobs(hungry(2))
            answer = await daemon.soniqctl_json("reload")
        assert answer["replaced"] == 7
        assert need - MASTER_CONNECTIONS - 3 <= counted.most <= need


async def test_a_reload_may_bring_a_larger_plan_with_a_larger_bound_and_go_back_again(tmp_path, postgres_url):
    async with Daemon(tmp_path, database_url=postgres_url, jobs=hungry(), **_at(postgres_url, NEED)) as daemon:
        for processes in (6, PROCESSES):
            bound = NEED + (processes - PROCESSES) * WORKER
            tables = _at(postgres_url, bound)
            daemon.write_config(**{**tables, "workers": {**tables["workers"], "processes": processes}})
            await daemon.soniqctl("reload")
            await daemon.eventually(lambda: _running(daemon, processes))  # noqa: B023  awaited here
            assert (await daemon.status())["connections"]["allowed"] == bound


async def _running(daemon: Daemon, processes: int) -> bool:
    children = [child for child in (await daemon.status())["children"] if child["group"] == "default"]
    return len(children) == processes and all(child["state"] == "running" for child in children)


async def test_each_role_opens_as_many_connections_as_it_counts_with(tmp_path, postgres_url):
    """pool_min_size of 20 makes each child open all that it may at its start."""
    tables = config()
    tables["database"] = {"url": postgres_url, "pool_min_size": 20}
    async with Daemon(tmp_path, database_url=postgres_url, jobs=hungry(), **tables) as daemon:
        await daemon.eventually(lambda: _sessions(postgres_url) >= PROCESSES * WORKER + SCHEDULER_CONNECTIONS)
        with census(postgres_url) as counted:
            async with load(postgres_url):
                await daemon.eventually(lambda: _looked(daemon, counted))
        assert counted.most <= NEED - WORKER
        await daemon.kill("default/1")
        await daemon.eventually(lambda: _running(daemon, PROCESSES))


async def _looked(daemon: Daemon, counted: Census) -> bool:
    """Keep the master asking, too."""
    await daemon.status()
    return counted.looks > 200


def _sessions(url: str) -> int:
    with psycopg.connect(url, application_name="census") as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'soniqd%'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_bound_that_is_too_small_is_a_configuration_error_with_its_numbers(tmp_path, postgres_url):
    daemon = Daemon(tmp_path, database_url=postgres_url, jobs=hungry(), **_at(postgres_url, NEED - 1))
    checked = subprocess.run(
        [str(BIN / "soniqd"), "-c", str(daemon.config), "-t"], capture_output=True, text=True, check=False, timeout=30
    )
    assert checked.returncode == 78
    assert f"database.max_connections: expected {NEED} or more (default 2 x 5, scheduler 1 x 2," in checked.stderr
    assert f"got {NEED - 1}" in checked.stderr


async def test_a_server_that_is_too_small_is_told_at_the_start_and_refuses_larger_plans(tmp_path, postgres_server):
    """The role's own limit is below the need, and lifted later."""
    name = postgres_server.create_database()
    role = f"small_{name}"
    postgres_server.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT {NEED - 1}")
    postgres_server.execute(f"ALTER DATABASE {name} OWNER TO {role}")
    url = postgres_server.url(name, user=role)
    with _owned(postgres_server, name, role):
        async with Daemon(tmp_path, database_url=url, jobs=hungry(), **config()) as daemon:
            record = await daemon.log_event("connections_short")
            assert record["level"] == "ERROR"
            assert f"up to {NEED} database connections are needed" in record["problem"]
            assert f"leaves {NEED - 1} (" in record["problem"]
            assert "the database server may run out of connections" in await daemon.soniqctl("status")
            assert await _running(daemon, PROCESSES), "its workers run all the same"
            before = {child["pid"] for child in (await daemon.status())["children"]}
            daemon.write_jobs(hungry(2))
            with pytest.raises(AssertionError, match="ended with 1, not 0") as failed:
                await daemon.soniqctl("reload")
            assert f"but the server leaves {NEED - 1}" in str(failed.value)
            rehearsed = await daemon.soniqctl_json("reload", "--dry-run", expect=1)
            assert "but the server leaves" in rehearsed["problems"][0]
            assert {child["pid"] for child in (await daemon.status())["children"]} == before
            postgres_server.execute(f"ALTER ROLE {role} CONNECTION LIMIT {NEED}")
            assert (await daemon.soniqctl_json("reload"))["replaced"] == 3
            status = await daemon.status()
            assert status["connections"] == {
                "needed": NEED, "allowed": NEED, "configured": None, "server": NEED, "problem": None,
            }  # fmt: skip


@contextmanager
def _owned(server: PostgresServer, database: str, role: str) -> Iterator[None]:
    try:
        yield
    finally:
        server.drop_database(database)
        server.execute(f"DROP ROLE {role}")


async def test_a_reload_goes_by_what_was_known_while_the_database_is_away(tmp_path, own_postgres):
    url = own_postgres.url()
    async with Daemon(tmp_path, database_url=url, jobs=hungry(), **config()) as daemon:
        await daemon.eventually(lambda: _knows(daemon))
        own_postgres.stop()
        await daemon.log_event("database_down")
        daemon.write_config(workers={"processes": 100, "concurrency": CONCURRENCY})
        with pytest.raises(AssertionError, match="the server leaves 197"):
            await daemon.soniqctl("reload")
        daemon.write_config(**config())
        await daemon.soniqctl("reload")
        own_postgres.start()


async def _knows(daemon: Daemon) -> bool:
    return (await daemon.status())["connections"]["server"] is not None


async def test_scaling_beyond_the_bound_is_refused_and_names_the_numbers(tmp_path, postgres_url):
    async with Daemon(tmp_path, database_url=postgres_url, jobs=hungry(), **_at(postgres_url, NEED)) as daemon:
        with pytest.raises(AssertionError, match="ended with 1, not 0") as failed:
            await daemon.soniqctl("scale", "default", str(PROCESSES + 1))
        assert f"expected {NEED + WORKER} or more" in str(failed.value)
        assert await _running(daemon, PROCESSES)
