"""What a job holds in the worker's memory while it runs, and what is left of it afterwards."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc

import pytest

from soniqd import Soniq
from soniqd.app import worker as assembly

SLOTS = 200


@pytest.fixture
async def at_work(wire):
    """Return a worker whose jobs all run and wait, what lets them go, and what stores more of them."""
    async with Soniq(database_url=wire.url, enqueue_validation="none", pool_min_size=1) as app:
        running = asyncio.Semaphore(0)
        gate = asyncio.Event()

        @app.job(name="task")
        async def task(number: int) -> None:
            running.release()
            await gate.wait()

        backend = await app._lifecycle.open()

        async def run(count, *, then=lambda: None):
            """Run jobs to their end; ``then`` is called when as many run as there are slots."""
            gate.clear()
            await app.enqueue_many("task", [{"number": number} for number in range(count)])
            worker = assembly.make_worker(app, backend, concurrency=SLOTS, queues=None, until_empty=True)
            working = asyncio.create_task(worker.run())
            for _ in range(min(count, SLOTS)):
                await running.acquire()
            then()
            gate.set()
            await working
            while not running.locked():
                await running.acquire()

        yield run


def _blocks():
    gc.collect()
    return sys.getallocatedblocks()


async def test_blocks_that_a_running_job_holds(at_work, holds):
    seen = {}

    def count(name):
        return lambda: seen.update({name: _blocks()})

    await at_work(SLOTS)
    await at_work(1, then=count("one"))
    await at_work(SLOTS, then=count("all"))
    holds("memory.blocks_a_running_job", (seen["all"] - seen["one"]) / (SLOTS - 1))


async def test_bytes_that_a_running_job_holds(at_work, holds):
    seen = {}

    def count(name):
        return lambda: seen.update({name: (gc.collect(), tracemalloc.get_traced_memory()[0])[1]})

    await at_work(SLOTS)
    tracemalloc.start()
    try:
        await at_work(1, then=count("one"))
        await at_work(SLOTS, then=count("all"))
    finally:
        tracemalloc.stop()
    holds("memory.bytes_a_running_job", (seen["all"] - seen["one"]) / (SLOTS - 1))


async def test_blocks_that_are_left_of_a_job(at_work, holds):
    await at_work(SLOTS)
    await at_work(5_000)
    before = _blocks()
    await at_work(5_000)
    holds("memory.blocks_left_of_a_job", max(0, _blocks() - before) / 5_000)
