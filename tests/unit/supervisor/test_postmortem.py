"""Whom the end of a worker blames, and what its jobs get to read."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from soniqd.control.memory import ChildMemory, RunningJob, write_blackbox
from soniqd.model.child import ChildSpec, ExitCause, Slot
from soniqd.policy.supervision import effects as fx
from soniqd.supervisor.box import Remains
from soniqd.supervisor.child import ChildProcess
from soniqd.supervisor.oom import MemoryKills
from soniqd.supervisor.postmortem import Finding, Postmortems, blamed_jobs
from soniqd.supervisor.reaper import Reaper

FIRST, SECOND = str(uuid.uuid4()), str(uuid.uuid4())


@pytest.fixture
async def child() -> Any:
    loop = asyncio.get_running_loop()
    child = ChildProcess(ChildSpec("worker", "default", 1, 1, "w1", concurrency=2), loop, Reaper(loop), tap_fd=0)
    yield child
    child.close()


@pytest.fixture
def memory(child: ChildProcess) -> Any:
    """The child's side of what it shares."""
    memory = ChildMemory(child.box.memory_fd)
    yield memory
    memory.close()


def postmortems() -> Postmortems:
    return Postmortems(MemoryKills(lambda: 0))


def ended(post: Postmortems, child: ChildProcess, cause: Any = "crash", *, hung: bool = False) -> Any:
    child.hung = hung
    child.remains = child.box.remains()
    post.examine(child, ExitCause(signal=9))
    return post.release(fx.Release("w1", Slot("default/1"), cause, "it ended"))


async def test_a_crash_blames_the_jobs_that_had_begun(child, memory):
    memory.begin(FIRST)
    release = ended(postmortems(), child)
    assert (release.blamed, release.reason) == ({FIRST}, "it ended")


async def test_a_crash_blames_jobs_whose_end_was_perhaps_not_written(child, memory):
    memory.begin(FIRST)
    memory.end(memory.begin(SECOND))
    assert ended(postmortems(), child).blamed == {FIRST, SECOND}


async def test_a_crash_of_an_idle_worker_blames_nobody_rather_than_anybody(child):
    release = ended(postmortems(), child)
    assert release.blamed == frozenset()


async def test_a_worker_of_which_nothing_is_known_leaves_the_blame_open():
    release = postmortems().release(fx.Release("w9", Slot("default/9"), "crash", "lost"))
    assert (release.blamed, release.reason) == (None, "lost")


async def test_an_expected_end_blames_nobody_and_tells_no_stacks(child, memory):
    memory.begin(FIRST)
    write_blackbox(child.box.blackbox_fd, "stacks")
    release = ended(postmortems(), child, "interrupted")
    assert (release.blamed, release.reason) == (None, "it ended")


async def test_the_last_stacks_go_to_the_jobs_within_bounds(child):
    write_blackbox(child.box.blackbox_fd, "stacks " * 10_000)
    release = ended(postmortems(), child)
    assert release.reason.startswith("it ended\n\nstacks stacks")
    assert len(release.reason) < 17_000


async def test_a_hung_worker_blames_the_job_that_blocks_it_alone(child, memory):
    memory.begin(FIRST)
    memory.set_blocker(memory.begin(SECOND))
    release = ended(postmortems(), child, hung=True)
    assert (release.blamed, release.reason) == ({SECOND}, "it ended: it hung")


async def test_a_hung_worker_that_could_not_tell_blames_all_that_ran(child, memory):
    memory.begin(FIRST)
    memory.begin(SECOND)
    assert ended(postmortems(), child, hung=True).blamed == {FIRST, SECOND}


async def test_a_finding_is_used_once(child, memory):
    memory.begin(FIRST)
    post = postmortems()
    ended(post, child)
    assert post.release(fx.Release("w1", Slot("default/1"), "crash", "again")).blamed is None


def test_what_is_no_id_is_not_blamed():
    remains = Remains((RunningJob("'; DROP TABLE", 1), RunningJob("\ufffd" * 36, 2), RunningJob(FIRST, 3)))
    assert blamed_jobs(Finding(remains, hung=False)) == {FIRST}
