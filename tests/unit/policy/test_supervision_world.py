"""The supervision machine against many random hosts: what must hold whatever happens, and that all ends well."""

from __future__ import annotations

import os
from random import Random

import pytest

from soniqd.policy.supervision import events as ev
from tests.support.supervision_world import Faults, World, random_plan

HOSTS = int(os.environ.get("SONIQD_TEST_HOSTS", "25"))
STEPS = 60

CALM = Faults()
BAD_DEPLOYS = Faults(new_code=0.6)
STUBBORN = Faults(new_code=0.3, stubborn=0.2)
WILD = Faults(kills=True, lost_fork_servers=True, new_code=0.4, stubborn=0.1, fork=0.05)


def play(seed: int, faults: Faults, steps: int = STEPS) -> World:
    random = Random(seed)
    plan, max_connections, tight = random_plan(random)
    world = World(seed, plan, faults, max_connections=max_connections, tight=tight)
    world.run(10)
    try:
        for _ in range(steps):
            world.run(random.choice([0.0, 0.1, 1.0, 5.0, 20.0]))
            world.act()
    except Exception as error:
        raise AssertionError(f"seed {seed}: {error}\n" + "\n".join(world.trace[-60:])) from error
    return world


@pytest.mark.parametrize("faults", [CALM, BAD_DEPLOYS, STUBBORN, WILD], ids=["calm", "deploys", "stubborn", "wild"])
@pytest.mark.parametrize("part", range(4))
def test_whatever_happens_every_promise_holds_and_everything_comes_to_rest(part, faults):
    for seed in range(part * HOSTS, (part + 1) * HOSTS):
        world = play(seed, faults)
        try:
            world.settle()
            world.check_at_rest()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}\n" + "\n".join(world.trace[-60:])) from error


@pytest.mark.parametrize("now", [False, True])
def test_stop_ends_whatever_is_under_way_and_leaves_no_child(now):
    for seed in range(HOSTS):
        world = play(seed, WILD, steps=seed % 40)
        world.tell(ev.Stop())
        if now:
            world.run(0.5)
            world.tell(ev.Stop(now=True))
        world.run(30)
        assert world.finished == 0, f"seed {seed}"
        assert not world.processes
        assert world.answered == world.asked
