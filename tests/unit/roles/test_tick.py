import asyncio
import os

import pytest

from soniqd.control.memory import ChildMemory, MasterMemory, create_memory
from soniqd.roles import tick
from soniqd.roles.tick import Tick
from tests.support.waiting import eventually


@pytest.fixture
def sides():
    """Both sides of one memory."""
    fd = create_memory(slots=1)
    child, master = ChildMemory(fd), MasterMemory(fd)
    os.close(fd)
    yield child, master
    child.close()
    master.close()


async def test_the_counter_grows_while_the_loop_goes_round_and_stops_with_it(sides, monkeypatch):
    monkeypatch.setattr(tick, "TICK_INTERVAL_S", 0.001)
    child, master = sides
    ticking = Tick(child, asyncio.get_running_loop())
    ticking.start()
    assert master.tick == 1
    await eventually(lambda: master.tick > 3)
    ticking.stop()
    last = master.tick
    rounds = iter(range(20))
    await eventually(lambda: next(rounds) > 15)
    assert master.tick == last
