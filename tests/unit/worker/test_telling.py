"""What a worker tells about itself: when it looked, how much more it would take, its tasks, whether it is paused."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace

from soniqd.model import TaskDefaults
from soniqd.worker import claimer
from tests.support.waiting import eventually
from tests.unit.worker.rig import Rig, hang


async def work() -> None:
    pass


async def test_a_worker_that_has_looked_says_so(rig: Rig):
    rig.task(work)
    before = time.monotonic()
    async with rig.running() as worker:
        looked_s = await eventually(lambda: worker.state().looked_s)
        assert before <= looked_s <= time.monotonic()


async def test_a_claim_without_an_answer_is_no_look(rig: Rig):
    rig.task(work)
    rig.backend.fault("claim", hang)
    async with rig.running() as worker:
        await eventually(lambda: rig.backend.count("claim"))
        assert worker.state().looked_s is None


async def test_each_poll_is_a_look(rig: Rig, monkeypatch):
    monkeypatch.setattr(claimer, "_LOOK_STEP_S", 0.0)
    rig.task(work)
    changes: list[float | None] = []
    async with rig.running(poll_interval_s=0.01) as worker:
        worker.on_change = lambda: changes.append(worker.state().looked_s)
        await eventually(lambda: len(set(changes)) >= 3, message="later looks are told of")


async def test_a_look_right_after_another_one_is_not_worth_a_word(rig: Rig):
    rig.task(work)
    async with rig.running() as worker:
        first = await eventually(lambda: worker.state().looked_s)
        worker.wake()
        await eventually(lambda: rig.backend.count("claim") == 2)
        assert worker.state().looked_s == first


async def test_a_worker_without_tasks_overlooks_nothing(rig: Rig):
    async with rig.running() as worker:
        await eventually(lambda: worker.state().looked_s is not None)


async def test_a_worker_whose_threads_are_all_busy_would_take_nothing_more(rig: Rig):
    go_on = threading.Event()

    def block() -> None:
        go_on.wait(10)

    rig.task(block)
    try:
        async with rig.running(concurrency=4, sync_threads=2) as worker:
            await eventually(lambda: worker.state().free == 2)
            for _ in range(2):
                await rig.enqueue("block")
            worker.wake()
            await eventually(lambda: worker.state().in_flight == 2)
            assert worker.state().free == 0
            go_on.set()
            await eventually(lambda: worker.state().free == 2)
    finally:
        go_on.set()


async def test_async_handlers_need_no_thread(rig: Rig):
    rig.task(work)
    async with rig.running(concurrency=4, sync_threads=1) as worker:
        await eventually(lambda: worker.state().free == 4)


async def test_tasks_are_registered_as_they_were_declared(rig: Rig):
    rig.task(work, queue="mail", priority=7, max_retries=1, timeout_s=2.5, unique=True)
    async with rig.running():
        await eventually(lambda: rig.backend.count("claim"))
        said = await rig.memory.task_defaults("work")
    declared = TaskDefaults(queue="mail", priority=7, max_attempts=2, timeout_s=2.5, unique=True)
    assert said == replace(declared, required=(), accepted=())


async def test_the_arguments_of_a_task_are_registered(rig: Rig):
    async def mail(to: str, copies: int = 1) -> None:
        del to, copies

    rig.task(mail)
    async with rig.running():
        await eventually(lambda: rig.backend.count("claim"))
        said = await rig.memory.task_defaults("mail")
    assert said is not None
    assert (said.required, said.accepted) == (("to",), ("copies", "to"))


async def test_a_task_without_a_timeout_has_the_workers(rig: Rig):
    rig.task(work)
    async with rig.running(job_timeout_s=12.0):
        await eventually(lambda: rig.backend.count("claim"))
        said = await rig.memory.task_defaults("work")
    assert said is not None
    assert said.timeout_s == 12.0


async def test_a_paused_worker_says_so_where_others_read_it(rig: Rig):
    rig.task(work)

    async def told(paused: bool) -> bool:
        [record] = await rig.memory.list_workers()
        return record.metadata.get("paused", False) is paused

    async with rig.running() as worker:
        await eventually(lambda: rig.backend.count("claim"))
        worker.pause()
        await eventually(lambda: told(True))
        job_id = await rig.enqueue("work")
        worker.resume()
        await eventually(lambda: told(False))
        await rig.until(job_id, "done")


async def test_pausing_while_it_registers_is_told_too(rig: Rig):
    rig.task(work)
    registering, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(call):
        registering.set()
        await go_on.wait()
        return await call()

    rig.backend.fault("register_worker", slowly)
    async with rig.running() as worker:
        await registering.wait()
        worker.pause()
        go_on.set()

        async def told() -> bool:
            return [record.metadata.get("paused") for record in await rig.memory.list_workers()] == [True]

        await eventually(told)
