"""What goes wrong with a file: said clearly, nothing lost, and over as soon as its cause is."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from soniqd.backends import JobFilter
from soniqd.backends.sqlite import SQLiteBackend, threads
from soniqd.backends.sqlite.failures import translated
from soniqd.backends.sqlite.threads import Answer, Call, Writer
from soniqd.backends.sqlite.transaction import Transaction
from soniqd.errors import ClosedError, ConfigurationError, DatabaseError, DatabaseUnavailableError, SchemaError
from tests.backends.conformance.builders import claim, done, job, worker


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
async def backend(path: Path) -> AsyncIterator[SQLiteBackend]:
    opened = SQLiteBackend(path, busy_timeout_s=0.2)
    await opened.open()
    yield opened
    await opened.close()


async def test_a_missing_folder(tmp_path: Path) -> None:
    backend = SQLiteBackend(tmp_path / "missing" / "jobs.db")
    with pytest.raises(DatabaseUnavailableError, match=r"cannot open .*jobs\.db: the folder .*missing does not exist"):
        await backend.open()
    (tmp_path / "missing").mkdir()
    await backend.open()
    await backend.close()


async def test_who_waits_for_the_first_one_to_open_does_not_suffer_from_its_cancellation(path: Path) -> None:
    setup = SQLiteBackend(path)
    await setup.open()
    await setup.setup()
    await setup.close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    backend = SQLiteBackend(path)
    first, second = asyncio.create_task(backend.open()), asyncio.create_task(backend.open())
    await asyncio.sleep(0)  # both wait now
    first.cancel()
    await asyncio.wait({first})
    other.execute("COMMIT")
    other.close()
    await second
    assert len(await backend.enqueue([job()])) == 1
    await backend.close()


async def test_of_many_bulks_only_the_first_ones_hold_the_loop_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = SQLiteBackend(path)
    await backend.open()
    await backend.setup()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(threads, "_HAND_OVER_S", 0.2)
    bulks = [asyncio.create_task(backend.enqueue([job() for _ in range(500)])) for _ in range(10)]
    began = time.monotonic()
    await asyncio.sleep(0)  # all of them are handed over
    held_up_s = time.monotonic() - began
    other.execute("COMMIT")
    other.close()
    assert [len(ids) for ids in await asyncio.gather(*bulks)] == [500] * 10
    assert held_up_s < 1.0
    await backend.close()


async def test_a_folder_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailableError, match="it is a folder"):
        await SQLiteBackend(tmp_path).open()


@pytest.fixture
def no_database(path: Path) -> Path:
    path.write_bytes(b"not a database, and long enough to be read as a header " * 100)
    return path


async def test_a_file_that_is_no_database(no_database: Path) -> None:
    with pytest.raises(DatabaseError, match="not an SQLite database"):
        await SQLiteBackend(no_database).open()
    with no_database.open("rb") as file:
        assert file.read(14) == b"not a database"


async def test_a_damaged_file(path: Path) -> None:
    backend = SQLiteBackend(path)
    await backend.open()
    await backend.enqueue([job(args_json=f'"{"x" * 500}"') for _ in range(2000)])
    await backend.close()
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 500_000)
    with pytest.raises(DatabaseError, match="the file is damaged"):
        await _read_everything(backend)
    await backend.close()


async def _read_everything(backend: SQLiteBackend) -> None:
    await backend.open()
    await backend.list_jobs(JobFilter())


async def test_a_read_only_file_says_so(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("INSERT INTO t VALUES (1)")
    connection.close()
    failure = translated(caught.value, path)
    assert isinstance(failure, DatabaseUnavailableError)
    assert "read-only" in str(failure)


async def test_a_lock_that_is_kept_too_long(backend: SQLiteBackend, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answers = await asyncio.gather(*(backend.enqueue([job()]) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(answer, DatabaseUnavailableError) for answer in answers)
    assert {str(answer) for answer in answers} == {
        f"cannot use the SQLite database {path}: another process keeps it locked"
    }
    assert await backend.queue_stats() == []
    other.execute("COMMIT")
    other.close()
    await backend.enqueue([job()])
    assert [row["queued"] for row in await backend.queue_stats()] == [1]


async def test_a_short_lock_is_waited_for(path: Path) -> None:
    backend = SQLiteBackend(path, busy_timeout_s=30.0)
    await backend.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    call = asyncio.ensure_future(backend.enqueue([job()]))
    done_early, _ = await asyncio.wait([call], timeout=0.1)
    assert not done_early
    other.execute("COMMIT")
    other.close()
    assert len(await call) == 1
    await backend.close()


async def test_a_full_disk_loses_nothing(backend: SQLiteBackend) -> None:
    await backend.enqueue([job()])
    claimed = await claim(backend, await worker(backend))
    await backend._access.write(_allow_no_more_pages)
    with pytest.raises(DatabaseUnavailableError, match="the disk is full"):
        await backend.enqueue([job(args_json=f'"{"x" * 1_000_000}"')])
    assert await backend.complete([done(claimed[0])]) == {claimed[0].fence.job_id}


async def test_a_full_disk_keeps_the_result_for_a_later_try(backend: SQLiteBackend) -> None:
    await backend.enqueue([job()])
    [claimed] = await claim(backend, await worker(backend))
    await backend._access.write(_allow_no_more_pages)
    outcome = done(claimed, "x" * 1_000_000)
    with pytest.raises(DatabaseUnavailableError, match="the disk is full"):
        await backend.complete([outcome])
    assert await backend.complete([outcome]) == {claimed.fence.job_id}


def _allow_no_more_pages(tx: Transaction) -> None:
    [pages] = tx.connection.execute("PRAGMA page_count").fetchone()
    tx.connection.execute(f"PRAGMA max_page_count = {pages}")


async def test_after_a_full_disk_the_wal_is_emptied_before_more_is_written(backend: SQLiteBackend, path: Path) -> None:
    await backend.enqueue([job() for _ in range(500)])
    another = sqlite3.connect(path)  # or the WAL would end with the connection that met the full disk
    another.execute("SELECT count(*) FROM soniq_jobs").fetchone()
    wal = path.with_name(path.name + "-wal")
    before = wal.stat().st_size
    await backend._access.write(_allow_no_more_pages)
    with pytest.raises(DatabaseError, match="the disk is full"):
        await backend.enqueue([job() for _ in range(500)])
    await backend._access.write(lambda tx: tx.connection.execute("PRAGMA max_page_count = 1000000").fetchone())
    await backend.enqueue([job()])
    assert wal.stat().st_size < before / 2
    another.close()


async def test_one_bad_call_does_not_spoil_those_beside_it(backend: SQLiteBackend) -> None:
    calls = [backend.enqueue([job(queue="\ud800" if n == 7 else "fine")]) for n in range(20)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [n for n, answer in enumerate(answers) if isinstance(answer, BaseException)] == [7]
    assert isinstance(answers[7], DatabaseError)
    assert [(row["queue"], row["queued"]) for row in await backend.queue_stats()] == [("fine", 19)]


async def test_a_file_that_is_replaced_is_opened_again(backend: SQLiteBackend, path: Path) -> None:
    await backend.enqueue([job()])
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()
    await backend.enqueue([job(queue="new")])
    assert [row["queue"] for row in await backend.queue_stats()] == ["new"]
    fresh = SQLiteBackend(path)
    await fresh.open()
    assert [row["queue"] for row in await fresh.queue_stats()] == ["new"]
    await fresh.close()


async def test_it_is_not_used_after_a_fork(backend: SQLiteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: -1)
        with pytest.raises(DatabaseError, match="before a fork"):
            await backend.enqueue([job()])
        with pytest.raises(DatabaseError, match="before a fork"):
            await backend.ping()
    await backend.ping()


async def test_it_must_be_open(path: Path) -> None:
    with pytest.raises(ClosedError, match="it is not open"):
        await SQLiteBackend(path).ping()


@pytest.mark.parametrize("name", ["", ":memory:"])
def test_a_database_without_a_file_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="memory://"):
        SQLiteBackend(name)


async def test_who_opens_a_new_file_second_finds_its_tables(path: Path) -> None:
    backend = SQLiteBackend(path)

    async def reach() -> None:
        await backend.open()
        await backend.check_schema()

    await asyncio.gather(*(reach() for _ in range(3)))
    await backend.close()


async def test_a_newer_schema_is_refused(backend: SQLiteBackend) -> None:
    await backend._access.write(lambda tx: tx.connection.execute("INSERT INTO soniq_migrations VALUES ('9999_x', 0)"))
    with pytest.raises(SchemaError, match=r"newer than this soniqd.*9999_x"):
        await backend.check_schema()
    assert (await backend.migration_status()).foreign == ("9999_x",)


async def test_another_programs_file_is_not_touched_before_setup(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    backend = SQLiteBackend(path)
    await backend.open()
    with pytest.raises(SchemaError, match="has no soniq tables; run 'soniqctl setup'"):
        await backend.check_schema()
    with pytest.raises(SchemaError, match="soniqctl setup"):
        await backend.enqueue([job()])
    status = await backend.setup()
    assert status.pending
    assert (await backend.setup()).pending == ()
    await backend.check_schema()
    await backend.enqueue([job()])
    await backend.close()


async def test_setup_of_a_new_file_tells_what_it_applied(path: Path) -> None:
    backend = SQLiteBackend(path)
    status = await backend.setup()
    assert status.pending == status.applied != ()
    assert (await backend.setup()).pending == ()
    await backend.close()


async def test_a_broken_migration_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from soniqd.backends.sqlite import connection

    broken = {"0001_core": ("CREATE TABLE soniq_half (a)", "CREATE NONSENSE")}
    with monkeypatch.context() as patched:
        patched.setattr(connection, "migrations", lambda: broken)
        with pytest.raises(DatabaseError, match="NONSENSE"):
            await SQLiteBackend(path).open()
    backend = SQLiteBackend(path)
    await backend.open()
    await backend.check_schema()
    await backend.close()


async def test_a_cancelled_call_that_has_not_begun_is_left_undone(
    backend: SQLiteBackend, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, serve = threading.Event(), Writer._serve

    def serve_and_say(writer: Writer, batch: Sequence[Call[Transaction]]) -> list[Answer]:
        begun.set()
        return serve(writer, batch)

    monkeypatch.setattr(Writer, "_serve", serve_and_say)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    first = asyncio.ensure_future(backend.enqueue([job(queue="first")]))
    assert await asyncio.to_thread(begun.wait, 10)  # with the first call in its hands, for which it needs the lock
    second = asyncio.ensure_future(backend.enqueue([job(queue="second")]))
    await asyncio.sleep(0)
    second.cancel()
    other.execute("COMMIT")
    other.close()
    await first
    with pytest.raises(asyncio.CancelledError):
        await second
    assert [row["queue"] for row in await backend.queue_stats()] == ["first"]
