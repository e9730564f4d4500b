"""Hooks, middleware and metrics: they look on, and lose no job (defect 4)."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref

import pytest

from soniqd.queue.context import Snooze
from tests.support.waiting import eventually
from tests.unit.worker.rig import Rig


async def test_hooks_see_the_run(rig: Rig):
    seen: list[object] = []

    async def work(a):
        seen.append("handler")
        return a

    rig.task(work)
    rig.hooks.add_before(lambda job_name, args: seen.append(("before", job_name, args)))
    rig.hooks.add_after(lambda result: seen.append(("after", result)))
    await rig.enqueue("work", {"a": 1})
    await rig.run_once()
    assert seen == [("before", "work", {"a": 1}), "handler", ("after", 1)]


async def test_the_error_hook_sees_every_failed_attempt(rig: Rig):
    seen = []

    async def fail():
        raise ValueError("x")

    rig.task(fail)
    rig.hooks.add_error(lambda error: seen.append(str(error)))
    await rig.enqueue("fail", max_attempts=2)
    await rig.run_once()
    assert seen == ["x", "x"]


async def test_no_hook_follows_a_snooze(rig: Rig):
    seen = []

    async def later():
        return Snooze(60)

    rig.task(later)
    rig.hooks.add_after(lambda: seen.append(1))
    rig.hooks.add_error(lambda: seen.append(1))
    await rig.enqueue("later")
    await rig.run_once()
    assert seen == []


@pytest.mark.parametrize("error", [ValueError("hook"), SystemExit(1), asyncio.CancelledError()])
async def test_a_raising_hook_changes_nothing_about_the_job(rig: Rig, error):
    async def work():
        return 1

    def fail():
        raise error

    rig.task(work)
    rig.hooks.add_after(fail)
    job_id = await rig.enqueue("work")
    await rig.run_once()
    assert (await rig.job(job_id))["result"] == 1


async def test_a_hook_that_never_ends_is_cut_short(rig: Rig, caplog):
    async def work():
        return 1

    async def hang():
        await asyncio.Event().wait()

    rig.task(work)
    rig.hooks.add_after(hang)
    job_id = await rig.enqueue("work")
    with caplog.at_level(logging.WARNING, "soniqd"):
        await rig.run_once(hook_timeout_s=0.05)
    assert (await rig.job(job_id))["status"] == "done"
    assert "hooks_cut_short" in {getattr(entry, "event", "") for entry in caplog.records}


async def test_middleware_wraps_the_handler(rig: Rig):
    async def double(context, call_next):
        return 2 * await call_next(context)

    def work():
        return 21

    rig.task(work)
    rig.hooks.add_middleware(double)
    job_id = await rig.enqueue("work")
    await rig.run_once()
    assert (await rig.job(job_id))["result"] == 42


class Sink:
    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.started: list[dict[str, object]] = []
        self.ended: list[dict[str, object]] = []

    async def record_job_start(self, **fields):
        self.started.append(fields)
        if self.broken:
            raise RuntimeError("sink")

    async def record_job_end(self, **fields):
        self.ended.append(fields)
        if self.broken:
            raise RuntimeError("sink")


async def test_the_sink_hears_of_each_attempt_and_its_end(rig: Rig):
    async def fail():
        raise ValueError("x")

    async def work():
        pass

    rig.task(fail)
    rig.task(work)
    sink = rig.extra["metrics_sink"] = Sink()
    await rig.enqueue("fail", max_attempts=2)
    await rig.enqueue("work")
    await rig.run_once()
    assert len(sink.started) == 3
    assert sorted(str(end["status"]) for end in sink.ended) == ["dead_letter", "done", "failed"]


async def test_a_raising_sink_loses_no_job(rig: Rig):
    async def work():
        pass

    rig.task(work)
    rig.extra["metrics_sink"] = Sink(broken=True)
    job_id = await rig.enqueue("work")
    await rig.run_once()
    assert (await rig.job(job_id))["status"] == "done"


async def test_the_sink_is_not_told_of_an_end_before_the_database_has_it(rig: Rig):
    from tests.unit.worker.rig import lost_before

    async def work():
        pass

    rig.task(work)
    sink = rig.extra["metrics_sink"] = Sink()
    rig.backend.fault("complete", lost_before, lost_before)
    job_id = await rig.enqueue("work")
    async with rig.running():
        await eventually(lambda: rig.backend.count("complete") == 1)
        assert sink.ended == []
        await rig.until(job_id, "done")
        await eventually(lambda: len(sink.ended) == 1)


class Big:
    """Something that a handler holds."""


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_what_a_failed_handler_held_goes_with_its_job(rig: Rig, kind):
    held = []

    async def waits():
        big = Big()
        held.append(weakref.ref(big))
        await asyncio.sleep(0)
        raise ValueError("no")

    def threaded():
        big = Big()
        held.append(weakref.ref(big))
        raise ValueError("no")

    rig.task(waits if kind == "async" else threaded, name="fails")
    await rig.enqueue("fails")
    gc.collect()
    gc.disable()
    try:
        await rig.run_once()
        assert held
        assert not any(ref() for ref in held)
    finally:
        gc.enable()
