"""Threads for handlers without async."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from soniqd.worker.threads import HandlerThreads
from tests.support.waiting import eventually


@pytest.fixture
def threads():
    threads = HandlerThreads(4)
    yield threads
    threads.close()


async def test_a_call_returns_or_raises_in_the_waiter(threads):
    def fail():
        raise ValueError("x")

    assert await threads.run(lambda: 1) == 1
    with pytest.raises(ValueError, match="x"):
        await threads.run(fail)


async def test_calls_run_at_the_same_time_in_few_threads(threads):
    together = threading.Barrier(4, timeout=10)
    await asyncio.gather(*(threads.run(together.wait) for _ in range(4)))
    names = {await threads.run(lambda: threading.current_thread().name) for _ in range(50)}
    assert len(names) <= 4


async def test_thousands_of_ends_are_all_delivered(threads):
    for _ in range(500):
        assert await asyncio.gather(*(threads.run(lambda number=number: number) for number in range(4))) == [0, 1, 2, 3]


async def test_a_cancelled_waiter_leaves_the_thread_alone(threads):
    started, release, ended = threading.Event(), threading.Event(), threading.Event()

    def slow():
        started.set()
        release.wait(10)
        ended.set()

    waiting = asyncio.create_task(threads.run(slow))
    await eventually(started.is_set)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    release.set()
    await eventually(ended.is_set)
    assert await threads.run(lambda: 2) == 2


async def test_closing_ends_idle_threads():
    before = set(threading.enumerate())
    threads = HandlerThreads(2)
    await threads.run(lambda: None)
    threads.close()
    await eventually(lambda: set(threading.enumerate()) <= before)


def test_a_thread_that_never_ends_does_not_keep_the_interpreter():
    program = """
import asyncio, threading, time
from soniqd.worker.threads import HandlerThreads

async def main():
    begun = threading.Event()
    task = asyncio.create_task(HandlerThreads(1).run(lambda: (begun.set(), time.sleep(3600))))
    await asyncio.to_thread(begun.wait)
    task.cancel()

asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)
