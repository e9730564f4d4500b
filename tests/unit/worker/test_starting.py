"""How jobs start: at once where the interpreter can, without keeping everybody else from their turn."""

from __future__ import annotations

import asyncio
import time

import pytest

from soniqd.worker.starting import EAGER
from tests.unit.worker.rig import Rig


@pytest.mark.skipif(not EAGER, reason="this interpreter starts no task at once")
async def test_long_bursts_of_jobs_let_others_have_their_turn(rig: Rig):
    turns: list[int] = []
    begun: list[int] = []

    async def work():
        begun.append(1)
        end = time.perf_counter() + 0.001
        while time.perf_counter() < end:
            pass

    async def other():
        while len(begun) < 200:
            turns.append(len(begun))
            await asyncio.sleep(0)

    rig.task(work)
    for _ in range(200):
        await rig.enqueue("work")
    beside = asyncio.create_task(other())
    await rig.run_once(concurrency=200)
    await beside
    assert len(set(turns)) >= 10


async def test_the_order_is_kept_over_bursts(rig: Rig):
    order: list[int] = []

    async def note(number: int):
        order.append(number)
        if number % 7 == 0:
            await asyncio.sleep(0)

    rig.task(note)
    for number in range(500):
        await rig.enqueue("note", {"number": number})
    await rig.run_once(concurrency=100)
    assert order == list(range(500))


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_jobs_that_end_at_once_never_run_beside_more_than_there_are_slots(rig: Rig, concurrency: int):
    running, most = 0, 0

    async def work(wait: bool):
        nonlocal running, most
        running += 1
        most = max(most, running)
        if wait:
            await asyncio.sleep(0)
        running -= 1

    rig.task(work)
    ids = [await rig.enqueue("work", {"wait": number % 3 == 0}) for number in range(100)]
    await rig.run_once(concurrency=concurrency)
    assert 1 <= most <= concurrency
    assert {await rig.status(job_id) for job_id in ids} == {"done"}


async def test_a_handler_knows_its_task_from_the_first_step_on(rig: Rig):
    names: list[str] = []

    async def work():
        names.append(type(asyncio.current_task()).__name__)
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))

    rig.task(work)
    job_id = await rig.enqueue("work")
    await rig.run_once()
    assert await rig.status(job_id) == "done"
    assert names == ["Task"]
