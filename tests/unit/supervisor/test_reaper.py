"""Exits are told once, whenever they are noticed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from soniqd.model.child import ExitCause
from soniqd.supervisor.reaper import Reaper
from tests.support.waiting import eventually


@pytest.fixture
async def reaper():
    reaper = Reaper(asyncio.get_running_loop())
    yield reaper
    reaper.close()


def spawn(*command: str) -> int:
    return os.posix_spawnp(command[0], command, os.environ)


async def test_the_owner_hears_of_an_exit_code_and_of_a_signal(reaper):
    heard: dict[int, ExitCause] = {}
    failing, killed = spawn("sh", "-c", "exit 3"), spawn("sleep", "600")
    reaper.watch(failing, lambda cause: heard.update({failing: cause}))
    reaper.watch(killed, lambda cause: heard.update({killed: cause}))
    reaper.signal(killed, signal.SIGKILL)
    await eventually(lambda: len(heard) == 2)
    assert heard == {failing: ExitCause(code=3), killed: ExitCause(signal=9)}


async def test_an_exit_before_the_pid_was_known_is_handed_out_when_it_is(reaper):
    reaper.expect()
    pid = spawn("sh", "-c", "exit 4")

    def reaped() -> bool:
        reaper.reap()
        return pid in reaper._early

    await eventually(reaped)
    heard: list[ExitCause] = []
    reaper.watch(pid, heard.append)
    reaper.arrived()
    await eventually(lambda: heard == [ExitCause(code=4)])


async def test_early_exits_are_forgotten_when_no_fork_is_outstanding(reaper):
    reaper.expect()
    pid = spawn("true")

    def reaped() -> bool:
        reaper.reap()
        return pid in reaper._early

    await eventually(reaped)
    reaper.arrived()
    assert reaper._early == {}


async def test_an_early_exit_is_not_taken_for_a_living_child_with_the_same_pid(reaper):
    pid = spawn("sleep", "600")
    reaper._early[pid] = ExitCause(code=1)
    heard: list[ExitCause] = []
    reaper.watch(pid, heard.append)
    reaper.signal(pid, signal.SIGTERM)
    await eventually(lambda: heard == [ExitCause(signal=15)])


def test_an_inherited_deaf_ear_for_children_is_opened_again():
    """With SIGCHLD ignored the kernel reaps by itself, and a master would wait for ever."""
    script = """
        import asyncio, os, signal
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        from soniqd.supervisor.reaper import Reaper

        async def main():
            reaper = Reaper(asyncio.get_running_loop())
            heard = asyncio.get_running_loop().create_future()
            pid = os.posix_spawnp("sh", ["sh", "-c", "exit 5"], os.environ)
            reaper.watch(pid, heard.set_result)
            print((await asyncio.wait_for(heard, 10)).code)

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "5\n"
