"""What a real child copies to the tap, and when."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from soniqd.backends import StorageBackend
from soniqd.backends.factory import create_backend
from soniqd.control import link
from soniqd.model import JobId, NewJob
from tests.support.fork_master import ForkMaster, StubChild
from tests.support.waiting import eventually

JOBS = """
import asyncio, logging, os, time
from soniqd import Soniq

app = Soniq()

@app.job(name="say")
async def say(text, end="\\n"):
    print(text, end=end)

@app.job(name="log")
async def log(text, level):
    logging.getLogger("shop").log(level, text)

@app.job(name="flood")
def flood(lines):
    for number in range(lines):
        print(number, "x" * 1000)

"""


@pytest.fixture
async def store(tmp_path) -> AsyncIterator[StorageBackend]:
    backend = create_backend(f"sqlite:///{tmp_path}/jobs.db")
    await backend.setup()
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
def master(masters, write_module, settings_for, store) -> ForkMaster:
    write_module("sayings", JOBS)
    master = masters(settings_for("sayings"))
    master.booted()
    return master


@pytest.fixture
def worker(master) -> StubChild:
    worker = master.fork()
    worker.hear(link.Ready)
    worker.tap.setblocking(False)
    return worker


def taken(worker: StubChild) -> list[dict[str, Any]]:
    """Everything that the tap holds."""
    entries = []
    while True:
        try:
            entries.append(json.loads(worker.tap.recv(1 << 17)))
        except BlockingIOError:
            return entries


async def run(store: StorageBackend, worker: StubChild, name: str, **args: Any) -> str:
    """Run a job to its end."""
    job_id = JobId(str(uuid.uuid4()))
    await store.enqueue([NewJob(job_id, name, json.dumps(args))])
    worker.tell(link.Wake())

    async def is_done() -> bool:
        job = await store.get_job(job_id)
        return job is not None and job["status"] == "done"

    await eventually(is_done, timeout_s=30)
    return job_id


async def test_nothing_is_copied_until_somebody_follows_nor_after(worker, store):
    await run(store, worker, "say", text="before")
    assert taken(worker) == []
    worker.tell(link.Follow(logging.NOTSET))
    job_id = await run(store, worker, "say", text="while")
    [entry] = taken(worker)
    assert (entry["message"], entry["job_id"], entry["slot"], entry["pid"]) == (
        "while",
        job_id,
        "default/1",
        worker.pid,
    )
    worker.tell(link.Follow(None))
    await run(store, worker, "say", text="after")
    assert taken(worker) == []


async def test_level_and_jobs_are_as_the_master_said_last(worker, store):
    worker.tell(link.Follow(logging.ERROR))
    for level in (logging.INFO, logging.ERROR):
        await run(store, worker, "log", text=f"level {level}", level=level)
    assert [entry["message"] for entry in taken(worker)] == [f"level {logging.ERROR}"]
    worker.tell(link.Follow(logging.NOTSET, (str(uuid.uuid4()),)))
    await run(store, worker, "say", text="of another job")
    assert taken(worker) == []


async def test_a_master_that_reads_nothing_loses_lines_and_hears_how_many(worker, store):
    worker.tell(link.Follow(logging.NOTSET))
    await run(store, worker, "flood", lines=5000)
    entries = taken(worker)
    assert 0 < len(entries) < 5000

    def lost() -> int:
        entries.extend(taken(worker))
        return sum(entry["lost"] for entry in entries if entry["event"] == "lines_lost")

    await eventually(lambda: sum(entry["event"] == "printed" for entry in entries) + lost() == 5000)


async def test_a_child_lives_on_without_a_reader(worker, store):
    worker.tell(link.Follow(logging.NOTSET))
    worker.tap.close()
    await run(store, worker, "say", text="to nobody")
    await run(store, worker, "say", text="again")
