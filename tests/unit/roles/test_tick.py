import asyncio
import mmap
import os
import struct

import pytest

from soniqd.roles import tick
from soniqd.roles.tick import TICK_BYTES, Tick
from tests.support.waiting import eventually


@pytest.fixture
def memory():
    """Shared memory with the counter of eight bytes, and its descriptor."""
    fd = os.memfd_create("tick")
    os.ftruncate(fd, TICK_BYTES)
    view = mmap.mmap(fd, TICK_BYTES)
    yield fd, lambda: struct.unpack("<Q", view[:TICK_BYTES])[0]
    view.close()
    os.close(fd)


async def test_the_counter_grows_while_the_loop_goes_round_and_stops_with_it(memory, monkeypatch):
    monkeypatch.setattr(tick, "TICK_INTERVAL_S", 0.001)
    fd, count = memory
    ticking = Tick(fd, asyncio.get_running_loop())
    ticking.start()
    assert count() == 1
    await eventually(lambda: count() > 3)
    ticking.stop()
    last = count()
    rounds = iter(range(20))
    await eventually(lambda: next(rounds) > 15)
    assert count() == last
