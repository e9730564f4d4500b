"""The wake-up of one waiting task."""

from __future__ import annotations

import asyncio

from soniqd.worker.bell import Bell


async def test_a_ring_before_the_wait_is_not_lost_and_counts_once():
    bell = Bell()
    bell.ring()
    bell.ring()
    assert await bell.wait(10)
    assert not await bell.wait(0.01)


async def test_a_ring_ends_a_wait():
    bell = Bell()
    waiting = asyncio.create_task(bell.wait())
    await asyncio.sleep(0)
    bell.ring()
    assert await waiting


async def test_a_ring_at_the_moment_of_the_timeout_is_seen():
    bell = Bell()
    waiting = asyncio.create_task(bell.wait(0.01))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.01, bell.ring)
    first = await waiting
    assert first or await bell.wait(1)


async def test_a_hushed_ring_is_forgotten():
    bell = Bell()
    bell.ring()
    bell.hush()
    assert not await bell.wait(0.01)


async def test_a_cancelled_wait_leaves_the_bell_usable():
    bell = Bell()
    waiting = asyncio.create_task(bell.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    bell.ring()
    assert await bell.wait(1)
