from __future__ import annotations

import asyncio
import contextlib

import pytest

from soniqd.queue.answers import left_of


async def test_a_coroutine_that_does_not_wait_has_ended():
    seen = []

    async def steps():
        seen.append("ran")

    assert left_of(steps()) is None
    assert seen == ["ran"]


@pytest.mark.parametrize("answer", [None, 1, "text", [], {}])
async def test_nothing_is_left_of_a_value(answer):
    assert left_of(answer) is None


async def test_what_a_coroutine_raises_at_once_is_raised():
    async def steps():
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        left_of(steps())


async def test_a_coroutine_that_waits_goes_on_when_it_is_awaited():
    async def steps():
        await asyncio.sleep(0)
        first = await asyncio.sleep(0.001, "first")
        async with asyncio.timeout(5):
            second = await asyncio.to_thread(lambda: "second")
        return [first, second]

    left = left_of(steps())
    assert left is not None
    assert await left == ["first", "second"]


async def test_what_it_raises_later_is_raised_to_who_awaits():
    async def steps():
        await asyncio.sleep(0)
        raise RuntimeError("broken")

    left = left_of(steps())
    assert left is not None
    with pytest.raises(RuntimeError, match="broken"):
        await left


async def test_a_cancellation_reaches_it_and_it_may_clean_up():
    seen = []

    async def steps():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            seen.append("cleaned up")
            raise

    async def waits():
        left = left_of(steps())
        assert left is not None
        await left

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cleaned up"]


async def test_it_may_swallow_what_is_thrown_and_go_on():
    async def steps():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        return "went on"

    left = left_of(steps())
    assert left is not None
    assert await left == "went on"


async def test_it_is_closed_with_whoever_awaits_it():
    seen = []

    async def steps():
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("closed")

    async def waits():
        left = left_of(steps())
        assert left is not None
        await left

    waiting = waits()
    waiting.send(None)
    waiting.close()
    assert seen == ["closed"]


async def test_a_future_is_left_as_it_is():
    future = asyncio.get_running_loop().create_future()
    assert left_of(future) is future
