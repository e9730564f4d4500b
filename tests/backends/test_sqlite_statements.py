"""The SQL files: every statement is used, and the hot ones follow their indexes."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import soniqd.backends.sqlite
from soniqd.backends import JobFilter
from soniqd.backends.sqlite import SQLiteBackend
from soniqd.backends.sqlite.connection import OLDEST_SQLITE
from soniqd.backends.sqlite.statements import migrations, statements
from soniqd.backends.sqlite.transaction import Transaction, room_for
from tests.backends.conformance.builders import claim, done, job, worker
from tests.support.waiting import eventually

PACKAGE = Path(soniqd.backends.sqlite.__file__).parent


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[SQLiteBackend]:
    opened = SQLiteBackend(tmp_path / "jobs.db")
    await opened.open()
    yield opened
    await opened.close()


def test_every_statement_is_used() -> None:
    code = "".join(file.read_text() for file in PACKAGE.glob("*.py"))
    assert [name for name in statements() if f'"{name}"' not in code] == []


def test_every_statement_says_what_it_is_for() -> None:
    for file in (PACKAGE / "sql").glob("*.sql"):
        for line in re.findall(r"^-- :.*$", file.read_text(), re.MULTILINE):
            assert re.fullmatch(r"-- :\w+ [A-Z].*\.", line), f"{file.name}: {line}"


def test_every_migration_has_statements_in_order() -> None:
    assert list(migrations()) == sorted(migrations())
    assert all(migrations().values())


def test_lists_of_rows_have_few_sizes_with_room_for_all() -> None:
    rooms = [room_for(count) for count in range(1, 2561)]
    assert all(count <= room <= count * 1.25 for count, room in enumerate(rooms, 1))
    assert len(set(rooms)) < 50
    assert rooms[-1] == 2560


@pytest.mark.parametrize("count", [1, 9, 2560, 2561])
async def test_a_row_of_no_job_is_never_stored(backend: SQLiteBackend, count: int) -> None:
    jobs = [job(), *(job(dedup_key=f"key {number}") for number in range(count - 1))]
    plain = [job() for _ in range(count)]
    for batch in (jobs, plain):
        assert await backend.enqueue(batch) == [each.id for each in batch]
    assert (await backend.queue_stats())[0]["queued"] == 2 * count


@pytest.mark.parametrize(
    "newer",
    [
        r"->",  # 3.38
        r"\bRETURNING\b",  # 3.35
        r"\bMATERIALIZED\b",  # 3.35
        r"\bON CONFLICT DO UPDATE\b",  # without its columns: 3.35
        r"\bIS (NOT )?DISTINCT\b",  # 3.39
    ],
)
def test_the_oldest_supported_sqlite_understands_every_statement(newer: str) -> None:
    """What came after ``OLDEST_SQLITE`` (sqlite.org/changes.html) is not used."""
    assert OLDEST_SQLITE == (3, 33, 0)
    every = [*statements().values(), *(text for texts in migrations().values() for text in texts)]
    spoken = [re.sub(r"--.*", "", text) for text in every]
    assert [text for text in spoken if re.search(newer, text)] == []


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("claimable_heads", "soniq_jobs_claim (queue=? AND job_name>?)"),
        ("best_of_pair", "soniq_jobs_claim (queue=? AND job_name=?)"),
        ("taken", "INTEGER PRIMARY KEY (rowid=?)"),
        ("due", "soniq_jobs_due"),
        ("next_due", "soniq_jobs_due"),
        ("held_by", "soniq_jobs_held"),
        ("held_by_workers", "soniq_jobs_held"),
        ("dedup_twin", "soniq_jobs_dedup_key"),
        ("unique_twin", "soniq_jobs_unique_queued"),
        ("drop_hot", "INTEGER PRIMARY KEY (rowid=?)"),
        ("prune_finished", "soniq_finished_jobs_expiry"),
        ("first_queue", "soniq_jobs_claim"),
        ("next_queue", "soniq_jobs_claim (queue>?)"),
        ("next_name", "soniq_jobs_claim (queue=? AND job_name>?)"),
        ("next_priority", "soniq_jobs_claim (queue=? AND job_name=? AND priority>?)"),
        ("count_ready", "soniq_jobs_claim (queue=?)"),
        ("count_lane", "soniq_jobs_claim (queue=? AND job_name=?)"),
        ("first_stored", "soniq_jobs_claim (queue=? AND job_name=? AND priority=?)"),
        ("ready_since", "soniq_jobs_claim (queue=? AND job_name=? AND priority=?)"),
    ],
)
async def test_hot_statements_follow_their_index(backend: SQLiteBackend, name: str, index: str) -> None:
    text = statements()[name]
    plan = await backend._access.read(lambda db: _plan(db, text))
    assert any(index in line for line in plan), plan
    assert not any("TEMP B-TREE" in line for line in plan) or name == "held_by_workers", plan


def _plan(db: sqlite3.Connection, text: str) -> list[str]:
    return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {text}", ["[]"] * text.count("?"))]


@pytest.mark.parametrize("kind", ["unknown name", "paused queue", "for later", "claimable"])
async def test_a_backlog_does_not_make_a_claim_dearer(backend: SQLiteBackend, kind: str) -> None:
    changes: dict[str, dict[str, Any]] = {
        "unknown name": {"name": "a-stranger", "priority": 1},
        "paused queue": {"queue": "a-paused", "priority": 1},
        "for later": {"delay_s": 3600.0, "priority": 1},
        "claimable": {},
    }
    await backend.set_queue_paused("a-paused", paused=True)
    claimer = await worker(backend)
    await backend.enqueue([job(queue="b") for _ in range(20)])
    before = await _instructions_of_a_claim(backend, claimer)
    await backend.enqueue([job(**{"queue": "b"} | changes[kind]) for _ in range(5000)])
    after = await _instructions_of_a_claim(backend, claimer)
    assert after <= before + 300, f"{before} before, {after} after"


async def _instructions_of_a_claim(backend: SQLiteBackend, claimer: str) -> int:
    """Claim five jobs and count the steps of SQLite's virtual machine."""
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    def watch(tx: Transaction) -> None:
        tx.connection.set_progress_handler(tick, 1)

    await backend._access.write(watch)
    taken = await backend.claim(claimer, names=["task"], queues=None, limit=5)  # type: ignore[arg-type]
    await backend._access.write(lambda tx: tx.connection.set_progress_handler(None, 0))
    assert len(taken) == 5
    return count


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("hot_jobs", "SCAN soniq_jobs"),
        ("finished_jobs", "SCAN soniq_finished_jobs USING INDEX soniq_finished_jobs_created"),
        ("dead_jobs", "SCAN soniq_dead_letter_jobs USING INDEX soniq_dead_letter_jobs_created"),
    ],
)
@pytest.mark.parametrize("where", ["1", "status = 'done'", "queue = 'q'"])
async def test_the_newest_jobs_are_found_without_sorting_them_all(
    backend: SQLiteBackend, name: str, plan: str, where: str
) -> None:
    assert await _plan_of_search(backend, name, where) == [plan]


async def test_held_jobs_are_found_by_their_index(backend: SQLiteBackend) -> None:
    plan = await _plan_of_search(backend, "held_jobs", "status = 'processing' AND worker_id = 'w'")
    assert "SEARCH soniq_jobs USING INDEX soniq_jobs_held (worker_id=?)" in plan


@pytest.mark.parametrize("name", ["hot_jobs", "finished_jobs", "dead_jobs"])
async def test_one_job_is_found_by_its_id(backend: SQLiteBackend, name: str) -> None:
    [line] = await _plan_of_search(backend, name, "id = 'x'")
    assert line.startswith("SEARCH")
    assert "(id=?)" in line


async def _plan_of_search(backend: SQLiteBackend, name: str, where: str) -> list[str]:
    text = statements()[name].replace("{where}", where)
    return await backend._access.read(
        lambda db: [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {text}", {"most": 10})]
    )


QUESTIONS: dict[str, Callable[[SQLiteBackend], Awaitable[Any]]] = {
    "queue_stats": lambda backend: backend.queue_stats(),
    "list_queues": lambda backend: backend.list_queues(),
    "unclaimable_names": lambda backend: backend.unclaimable_names(),
    "jobs": lambda backend: backend.list_jobs(JobFilter(limit=5)),
    "jobs of a queue without any": lambda backend: backend.list_jobs(JobFilter(queue="empty", limit=5)),
    "jobs of a status without any": lambda backend: backend.list_jobs(JobFilter(status="done", limit=5)),
    "jobs that are held": lambda backend: backend.list_jobs(JobFilter(status="processing", limit=5)),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
async def test_a_backlog_does_not_make_a_question_dearer(backend: SQLiteBackend, question: Any) -> None:
    await backend.enqueue([job() for _ in range(100)])
    await claim(backend, await worker(backend), limit=20)
    before = await _instructions_of(backend, question)
    await backend.enqueue([job() for _ in range(5000)])
    after = await _instructions_of(backend, question)
    assert after <= before + 300, f"{before} before, {after} after"


async def _instructions_of(backend: SQLiteBackend, question: Callable[[SQLiteBackend], Awaitable[Any]]) -> int:
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    await backend._access.read(lambda db: db.set_progress_handler(tick, 1))
    await question(backend)
    await backend._access.read(lambda db: db.set_progress_handler(None, 0))
    return count


async def test_pruning_lets_others_write_in_between(backend: SQLiteBackend) -> None:
    await backend.enqueue([job() for _ in range(1200)])
    claimer = await worker(backend)
    await backend.complete([done(one, ttl_s=0.001) for one in await claim(backend, claimer, limit=1200)])
    completed = await backend.now()

    async def expired() -> bool:
        return await backend.now() - completed > timedelta(milliseconds=2)

    await eventually(expired)
    pruning = asyncio.create_task(backend.prune())
    other = asyncio.create_task(backend.enqueue([job()]))
    await asyncio.wait([pruning, other], return_when=asyncio.FIRST_COMPLETED)
    assert not pruning.done()
    assert (await pruning).history == 1200
    assert [row["total"] for row in await backend.queue_stats()] == [1]


async def test_counts_of_queues_that_are_gone_are_forgotten(backend: SQLiteBackend) -> None:
    [job_id] = await backend.enqueue([job()])
    await backend.delete_job(job_id)
    await backend.prune()
    assert await backend._access.read(lambda db: db.execute("SELECT * FROM soniq_counts").fetchall()) == []


async def test_a_file_of_an_older_release_gets_its_jobs_counted(tmp_path: Path, backend: SQLiteBackend) -> None:
    counts = "SELECT * FROM soniq_counts ORDER BY queue, status"
    await backend.enqueue([job(queue=queue) for queue in ("a", "a", "b")])
    await claim(backend, await worker(backend), limit=1)
    triggers = "SELECT name FROM sqlite_master WHERE type = 'trigger'"

    def undo(tx: Transaction) -> list[Any]:
        counted = tx.connection.execute(counts).fetchall()
        for (name,) in tx.connection.execute(triggers).fetchall():
            tx.connection.execute(f"DROP TRIGGER {name}")
        tx.connection.execute("DROP TABLE soniq_counts")
        tx.connection.execute("DELETE FROM soniq_migrations WHERE version = '0003_counts'")
        return counted

    before = await backend._access.write(undo)
    assert (await backend.setup()).pending == ("0003_counts",)
    assert await backend._access.read(lambda db: db.execute(counts).fetchall()) == before


async def test_finished_jobs_leave_the_hot_table(backend: SQLiteBackend) -> None:
    await backend.enqueue([job() for _ in range(10)])
    await backend.complete([done(one) for one in await claim(backend, await worker(backend))])
    rows = await backend._access.read(lambda db: db.execute("SELECT count(*) FROM soniq_jobs").fetchone())
    assert rows == (0,)


async def test_no_value_is_written_into_a_statement(backend: SQLiteBackend) -> None:
    text = "'; DROP TABLE soniq_jobs; --"
    await backend.enqueue([job(text, queue=text, dedup_key=text, args_json=json.dumps(text))])
    [claimed] = await claim(backend, await worker(backend, [text]), names=[text], queues=[text])
    assert (claimed.name, claimed.queue, json.loads(claimed.args_json)) == (text, text, text)
