"""Producers that are Soniq 0.1.0's own, unchanged, while soniqd runs their jobs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from soniq import Soniq as OriginalSoniq

from tests.support.daemon import Daemon

AT_ONCE_S = 1.0
"""Far below the poll interval of these daemons (10 minutes); a wake-up takes milliseconds."""


@pytest.fixture(params=["soniqd", "soniq"])
async def database_url(request: pytest.FixtureRequest, postgres_url: str, empty_postgres_url: str) -> str:
    """A database that soniqd has set up, and one of Soniq's own setup, which `soniqctl setup` adopts later."""
    if request.param == "soniqd":
        return postgres_url
    app = OriginalSoniq(database_url=empty_postgres_url)
    await app.setup()
    await app.close()
    return empty_postgres_url


@pytest.fixture
async def producer(database_url: str) -> AsyncIterator[OriginalSoniq]:
    app = OriginalSoniq(database_url=database_url, enqueue_validation="none", pool_min_size=1)
    yield app
    await app.close()


class Runs:
    """What the daemon's ``append`` job has written."""

    def __init__(self, daemon: Daemon, path: Path) -> None:
        self._daemon = daemon
        self._path = path

    def args(self, text: str) -> dict[str, str]:
        return {"path": str(self._path), "text": text}

    def at(self, text: str) -> list[float]:
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return [float(line.split()[2]) for line in lines if line.split()[0] == text]

    async def once(self, text: str) -> float:
        """Wait for its run, and return when that was."""
        await self._daemon.eventually(lambda: self.at(text), message=f"{text} has run")
        [at] = self.at(text)
        return at


@pytest.fixture
async def runs(tmp_path: Path, database_url: str) -> AsyncIterator[Runs]:
    """A daemon whose workers look by themselves every ten minutes only."""
    daemon = Daemon(tmp_path, database_url=database_url)
    daemon.write_config(jobs={"poll_interval": "10m"})
    async with daemon:
        yield Runs(daemon, tmp_path / "runs")


@pytest.mark.parametrize(
    "options",
    [{}, {"unique": True}, {"dedup_key": "k"}, {"queue": "reports", "priority": 1}, {"unique": True, "queue": "q"}],
    ids=["plain", "unique", "dedup", "queue", "unique in a queue"],
)
async def test_its_job_runs_at_once(producer: OriginalSoniq, runs: Runs, options: dict[str, Any]):
    for text in ("first", "second"):  # the same key again, once its job has run
        started = time.time()
        await producer.enqueue("append", args=runs.args(text), **options)
        assert await runs.once(text) - started < AT_ONCE_S


async def test_its_bulk_runs_at_once(producer: OriginalSoniq, runs: Runs):
    started = time.time()
    await producer.enqueue_many("append", [runs.args(str(number)) for number in range(100)])
    assert max([await runs.once(str(number)) for number in range(100)]) - started < 2 * AT_ONCE_S


async def test_its_job_for_later_runs_when_it_is_due(producer: OriginalSoniq, runs: Runs):
    due = datetime.now(UTC) + timedelta(seconds=1.5)
    await producer.enqueue("append", args=runs.args("later"), scheduled_at=due)
    assert 0 <= await runs.once("later") - due.timestamp() < AT_ONCE_S


async def test_its_job_for_a_time_that_is_over_runs_at_once(producer: OriginalSoniq, runs: Runs):
    started = time.time()
    await producer.enqueue("append", args=runs.args("late"), scheduled_at=datetime.now(UTC) - timedelta(minutes=1))
    assert await runs.once("late") - started < AT_ONCE_S


async def test_its_job_in_an_asyncpg_transaction_runs_with_the_commit(
    producer: OriginalSoniq, runs: Runs, database_url
):
    connection = await asyncpg.connect(database_url)
    async with connection.transaction():
        await producer.enqueue("append", args=runs.args("order"), connection=connection)
        await producer.enqueue("append", args=runs.args("unique"), unique=True, connection=connection)
        await producer.enqueue("append", args=runs.args("dedup"), dedup_key="d", connection=connection)
        committing = time.time()
    for text in ("order", "unique", "dedup"):
        assert 0 <= await runs.once(text) - committing < AT_ONCE_S
    rollback = connection.transaction()
    await rollback.start()
    await producer.enqueue("append", args=runs.args("never"), connection=connection)
    await rollback.rollback()
    await connection.close()
    await producer.enqueue("append", args=runs.args("after"))
    await runs.once("after")
    assert runs.at("never") == []


async def test_what_any_client_inserts_and_tells_runs_at_once(runs: Runs, database_url):
    """The row and the notification are the whole interface: no library of ours or theirs is needed."""
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        await connection.execute(
            "INSERT INTO soniq_jobs (id, job_name, args) VALUES (gen_random_uuid(), 'append', %s::jsonb)",
            (f'{{"path": "{runs.args("raw")["path"]}", "text": "raw"}}',),
        )
        await connection.execute("SELECT pg_notify('soniq_new_job', 'default')")
        committing = time.time()
    assert await runs.once("raw") - committing < AT_ONCE_S
