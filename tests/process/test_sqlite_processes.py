"""Real processes on one SQLite file: claims, kill -9 in mid-transaction, leadership and wake-ups."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import sys
import textwrap
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from soniqd.backends import WakeUp
from soniqd.backends.sqlite import SQLiteBackend
from tests.backends.conformance.builders import claim, done, job, worker

Start = Callable[[str], Awaitable[Process]]

PREAMBLE = """
import asyncio, json, sqlite3, sys, time
from soniqd.backends.sqlite import SQLiteBackend
from tests.backends.conformance.builders import claim, done, job, worker

path = sys.argv[1]

def tell(value):
    print(json.dumps(value), flush=True)

def heard():
    return sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
async def backend(path: Path) -> AsyncIterator[SQLiteBackend]:
    opened = SQLiteBackend(path)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def start(path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Start]:
    """Start Python processes; each runs PREAMBLE and its own program with the file's path."""
    started: list[Process] = []

    async def start(program: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            PREAMBLE + textwrap.dedent(program),
            str(path),
            stdin=PIPE,
            stdout=PIPE,
            cwd=request.config.rootpath,
            limit=2**24,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]


async def told(process: Process) -> object:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        line = await process.stdout.readline()
    assert line, f"process {process.pid} ended without a word"
    return json.loads(line)


async def kill(process: Process) -> None:
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()


DRAIN = """
async def main():
    backend = SQLiteBackend(path)
    await backend.open()
    me = await worker(backend)
    tell("ready")
    heard()
    done_ids = []
    while taken := await backend.claim(me, names=["task"], queues=None, limit=7):
        done_ids += sorted(await backend.complete([done(one) for one in taken]))
    tell(done_ids)
    await backend.close()

asyncio.run(main())
"""


async def test_several_processes_claim_each_job_once(backend: SQLiteBackend, start: Start) -> None:
    jobs = [job() for _ in range(2000)]
    await backend.enqueue(jobs)
    processes = [await start(DRAIN) for _ in range(3)]
    for process in processes:
        assert await told(process) == "ready"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
    answers = [await told(process) for process in processes]
    counts = Counter(job_id for answer in answers for job_id in answer)  # type: ignore[attr-defined]
    assert set(counts) == {one.id for one in jobs}
    assert set(counts.values()) == {1}
    [stats] = await backend.queue_stats()
    assert (stats["done"], stats["queued"], stats["processing"]) == (2000, 0, 0)


CREATE = """
async def main():
    backend = SQLiteBackend(path)
    tell("ready")
    heard()
    await backend.open()
    await backend.check_schema()
    await backend.enqueue([job()])
    await backend.close()
    tell("stored")

asyncio.run(main())
"""


async def test_processes_that_create_one_file_at_once(start: Start, path: Path) -> None:
    processes = [await start(CREATE) for _ in range(4)]
    for process in processes:
        assert await told(process) == "ready"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
    assert [await told(process) for process in processes] == ["stored"] * 4
    backend = SQLiteBackend(path)
    await backend.open()
    assert [row["queued"] for row in await backend.queue_stats()] == [4]
    await backend.close()


HALF_WRITTEN = """
def stay(tx):
    tx.connection.execute("PRAGMA cache_size = 1")  # spill to the file's log before the commit
    tx.connection.execute("UPDATE soniq_jobs SET status = 'processing', worker_id = 'nobody', queue = 'spoiled'")
    tell("half written")
    heard()

async def main():
    backend = SQLiteBackend(path)
    await backend.open()
    await backend._access.write(stay)

asyncio.run(main())
"""


async def test_a_writer_killed_in_mid_transaction_spoils_nothing(
    backend: SQLiteBackend, start: Start, path: Path
) -> None:
    jobs = [job(args_json=json.dumps("x" * 2000)) for _ in range(500)]
    await backend.enqueue(jobs)
    victim = await start(HALF_WRITTEN)
    assert await told(victim) == "half written"
    waiting = asyncio.ensure_future(backend.enqueue([job(queue="after")]))
    await kill(victim)
    await waiting
    assert [(row["queue"], row["queued"]) for row in await backend.queue_stats()] == [("after", 1), ("default", 500)]
    taken = await claim(backend, await worker(backend), limit=1000)
    assert len(await backend.complete([done(one) for one in taken])) == 501
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


WRITE_ON = """
async def main():
    backend = SQLiteBackend(path)
    await backend.open()
    me = await worker(backend)
    tell("ready")
    while True:
        stored = await backend.enqueue([job(queue="busy") for _ in range(20)])
        tell(stored)
        await backend.complete([done(one) for one in await claim(backend, me, queues=["busy"], limit=10)])

asyncio.run(main())
"""


async def test_what_was_reported_as_stored_survives_a_kill(backend: SQLiteBackend, start: Start, path: Path) -> None:
    stored: set[str] = set()
    for _ in range(3):
        victim = await start(WRITE_ON)
        assert await told(victim) == "ready"
        for _ in range(5):
            stored.update(await told(victim))  # type: ignore[arg-type]
        await kill(victim)
        assert victim.stdout is not None
        for line in (await victim.stdout.read()).splitlines(keepends=True):
            if line.endswith(b"\n"):
                stored.update(json.loads(line))
    for job_id in stored:
        assert await backend.get_job(job_id) is not None  # type: ignore[arg-type]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    await backend.enqueue([job()])


LEAD = """
async def main():
    backend = SQLiteBackend(path)
    await backend.open()
    tell(await backend.leadership("scheduler/a b").acquire())
    heard()

asyncio.run(main())
"""


async def test_a_killed_leaders_place_is_free_at_once(backend: SQLiteBackend, start: Start) -> None:
    leader = await start(LEAD)
    assert await told(leader) is True
    mine = backend.leadership("scheduler/a b")
    assert await mine.acquire() is False
    await kill(leader)
    assert await mine.acquire() is True
    assert await mine.held() is True


LISTEN = """
async def main():
    backend = SQLiteBackend(path)
    await backend.open()
    subscription = await backend.subscribe()
    tell(subscription.live)
    while True:
        tell([one.queue for one in await subscription.wait(60.0)])

asyncio.run(main())
"""


async def test_another_process_is_woken(backend: SQLiteBackend, start: Start) -> None:
    listener = await start(LISTEN)
    assert await told(listener) is True
    await backend.enqueue([job(queue="a")])
    assert await told(listener) == ["a"]


async def test_a_stopped_listener_blocks_nobody_and_catches_up(backend: SQLiteBackend, start: Start) -> None:
    mine = await backend.subscribe()
    listener = await start(LISTEN)
    assert await told(listener) is True
    os.kill(listener.pid, signal.SIGSTOP)
    for number in range(700):
        await backend.enqueue([job(queue=f"q{number}")])
        assert await mine.wait(10.0), f"not woken by enqueue {number}"
    os.kill(listener.pid, signal.SIGCONT)
    found: set[object] = set()
    while None not in found:
        found.update(await told(listener))  # type: ignore[arg-type]


async def test_a_killed_listeners_socket_goes(backend: SQLiteBackend, start: Start, path: Path) -> None:
    mine = await backend.subscribe()
    listener = await start(LISTEN)
    assert await told(listener) is True
    assert len(_sockets(path)) == 2
    await kill(listener)
    await backend.enqueue([job(queue="q")])
    assert await mine.wait(10.0) == (WakeUp("q"),)
    assert len(_sockets(path)) == 1


def _sockets(path: Path) -> list[Path]:
    return list(path.with_name(path.name + ".wake").glob("*.sock"))
