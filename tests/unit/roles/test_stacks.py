"""What is told of threads and tasks, asked from another thread, as the monitor does."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator

import pytest

from soniqd.log.context import job_id_var
from soniqd.model import JobId
from soniqd.roles import stacks
from soniqd.roles.stacks import Activity, describe_stacks, named, place_of
from soniqd.worker.board import InFlight


async def told(activity: Activity = Activity()) -> str:  # noqa: B008  it is frozen
    """Ask in a thread, while the loop goes round."""
    loop, here = asyncio.get_running_loop(), threading.get_ident()
    return await asyncio.to_thread(
        lambda: describe_stacks(loop, here, activity, headline="head", leave_out=threading.get_ident())
    )


def part(text: str, title: str) -> str:
    found = [part for part in text.split("\n\n") if part.startswith(title)]
    assert found, f"nothing of {title} in {text}"
    return found[0]


@contextlib.asynccontextmanager
async def suspended(coroutine, name: str, **options) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(coroutine, name=name, **options)
    await asyncio.sleep(0)
    yield task
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def innermost():
    await asyncio.get_running_loop().create_future()


async def middle():
    await innermost()


async def test_a_task_is_told_down_to_what_it_waits_for():
    async with suspended(middle(), "waits"):
        text = part(await told(), "Task waits")
    assert text.index("in middle") < text.index("in innermost")
    assert "waits for <Future pending" in text


async def generated():
    await innermost()
    yield 1


async def iterates():
    async for _ in generated():
        pass


async def test_a_task_inside_an_asynchronous_generator_is_told():
    async with suspended(iterates(), "iterates"):
        text = part(await told(), "Task iterates")
    assert "in iterates" in text


async def test_the_jobs_own_task_and_tasks_that_it_started_are_told_with_the_job():
    async def job():
        job_id_var.set("job-1")
        async with suspended(innermost(), "started by it"):
            await innermost()

    async with suspended(job(), "the job's own") as task:
        activity = Activity((InFlight(JobId("job-1"), "resize", task, 1),))
        await asyncio.sleep(0)
        text = await told(activity)
    assert part(text, "Task the job's own, for job job-1 (resize)")
    assert part(text, "Task started by it, for job job-1 (resize)")
    mine = asyncio.current_task()
    assert mine is not None
    assert "for job" not in part(text, f"Task {mine.get_name()}").split("\n")[0]


async def test_a_thread_is_told_with_its_job_and_the_one_that_asks_is_left_out():
    go_on = threading.Event()

    def handler():
        go_on.wait()

    thread = threading.Thread(target=handler, name="busy")
    thread.start()
    activity = Activity((InFlight(JobId("job-2"), "pack", None, 1),), {thread.ident or 0: "job-2"})
    text = await told(activity)
    go_on.set()
    thread.join()
    assert "in handler" in part(text, "Thread busy, for job job-2 (pack)")
    assert "Thread MainThread, which runs the event loop" in text
    assert "describe_stacks" not in text


async def test_endless_stacks_are_cut(monkeypatch):
    monkeypatch.setattr(stacks, "MAX_CHARACTERS", 500)
    monkeypatch.setattr(stacks, "_MAX_TASKS", 2)
    async with contextlib.AsyncExitStack() as several:
        for number in range(4):
            await several.enter_async_context(suspended(middle(), f"t{number}"))
        text = await told()
        assert len(text) < 520
        assert text.endswith("... cut\n")
        monkeypatch.setattr(stacks, "MAX_CHARACTERS", 100_000)
        assert "... and 3 tasks more" in await told()  # the test's own, too


def test_the_place_is_the_applications_line_and_the_innermost_one():
    frame = sys._getframe()
    assert place_of(frame) == f"{__file__}:{frame.f_lineno} {frame.f_code.co_name}"


def test_a_place_in_a_library_names_the_line_that_led_there():
    import json

    seen = []

    class Odd:
        pass

    def default(_):
        seen.append(place_of(sys._getframe(1)))

    json.JSONEncoder(default=default).encode([Odd()])
    before, _, inner = seen[0].partition(", in ")
    assert before.startswith(__file__)
    assert "json/encoder.py" in inner


@pytest.mark.parametrize("job", [None, InFlight(JobId("j"), "n", None, None)])
def test_a_job_is_named_or_told_to_be_unknown(job):
    assert named(job) == ("code of no known job" if job is None else "job j (n)")
