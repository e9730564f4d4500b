"""Memory and black box, from both sides; and what happens to a side that believes nothing of the other one."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import pytest

from soniqd.control.memory import (
    BLACKBOX_BYTES,
    ChildMemory,
    MasterMemory,
    create_blackbox,
    create_memory,
    read_blackbox,
    write_blackbox,
    written_to_blackbox,
)
from tests.support.waiting import eventually_sync


@pytest.fixture
def sides() -> Iterator[tuple[ChildMemory, MasterMemory]]:
    """Both sides of memory for three jobs."""
    fd = create_memory(3)
    child, master = ChildMemory(fd), MasterMemory(fd)
    os.close(fd)
    yield child, master
    child.close()
    master.close()


@pytest.fixture
def blackbox() -> Iterator[int]:
    fd = create_blackbox()
    yield fd
    os.close(fd)


def test_jobs_that_have_begun_are_there_oldest_first_until_they_end(sides):
    child, master = sides
    ids = [str(uuid.uuid4()) for _ in range(3)]
    before_ns = time.monotonic_ns()
    slots = [child.begin(job_id) for job_id in ids]
    assert len(set(slots)) == 3
    running = master.running()
    assert [job.job_id for job in running] == ids
    assert all(before_ns <= job.started_ns <= time.monotonic_ns() for job in running)
    child.end(slots[1])
    assert [job.job_id for job in master.running()] == [ids[0], ids[2]]
    again = str(uuid.uuid4())
    assert child.begin(again) == slots[1]
    assert [job.job_id for job in master.running()] == [ids[0], ids[2], again]


def test_it_is_known_how_many_jobs_run_and_have_begun_and_how_often_it_looked(sides):
    child, master = sides
    assert (master.in_flight, master.begun, master.looks) == (0, 0, 0)
    child.look()
    assert (master.in_flight, master.begun, master.looks) == (0, 0, 1)
    slots = [child.begin("a" * 36), child.begin("b" * 36)]
    assert (master.in_flight, master.begun) == (2, 2)
    for slot in slots:
        child.end(slot)
    assert (master.in_flight, master.begun) == (0, 2)


def test_a_job_too_many_is_not_noted_and_harms_nobody(sides):
    child, master = sides
    slots = [child.begin("a" * 36) for _ in range(3)]
    assert child.begin("b" * 36) is None
    child.end(None)
    assert len(master.running()) == len(slots)


def test_the_job_that_blocks_is_known_while_it_blocks(sides):
    child, master = sides
    child.begin("first")
    slot = child.begin("second")
    assert master.blocker() is None
    child.set_blocker(slot)
    blocker = master.blocker()
    assert blocker is not None
    assert blocker.job_id == "second"
    child.set_blocker(None)
    assert master.blocker() is None


def test_a_blocker_that_has_ended_or_never_was_is_nobody(sides):
    child, master = sides
    slot = child.begin("first")
    child.set_blocker(slot)
    child.end(slot)
    assert master.blocker() is None
    child.set_blocker(4711)
    assert master.blocker() is None


def test_questions_and_answers_are_counted(sides):
    child, master = sides
    assert master.answered == child.asked == 0
    asked = master.ask()
    assert child.asked == asked
    assert master.answered != asked
    child.answer(asked)
    assert master.answered == asked


def test_whatever_a_child_writes_is_only_text_and_numbers():
    fd = create_memory(2)
    master = MasterMemory(fd)
    os.pwrite(fd, b"\xff" * os.fstat(fd).st_size, 0)
    assert master.tick == 2**64 - 1
    assert len(master.running()) == 2
    assert master.blocker() is None
    assert master.ask() == 0
    master.close()
    os.close(fd)


def test_a_child_killed_at_any_moment_leaves_what_ran():
    """A process begins and ends jobs as fast as it can; what it left when it is killed is ids."""
    fd = create_memory(3)
    master = MasterMemory(fd)
    script = (
        "import sys, itertools\n"
        "from soniqd.control.memory import ChildMemory\n"
        "memory = ChildMemory(int(sys.argv[1]))\n"
        "for n in itertools.count():\n"
        "    slots = [memory.begin(f'{n % 10:036d}') for _ in range(3)]\n"
        "    memory.tick()\n"
        "    for slot in slots: memory.end(slot)\n"
    )
    for _ in range(3):
        before = master.tick
        child = subprocess.Popen([sys.executable, "-c", script, str(fd)], pass_fds=[fd])
        eventually_sync(lambda: master.tick not in (before, 0))  # noqa: B023  it is called here
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert all(job.job_id == f"{int(job.job_id):036d}" for job in master.running())
    master.close()
    os.close(fd)


def test_what_was_written_is_read_once(blackbox):
    assert read_blackbox(blackbox) == ""
    write_blackbox(blackbox, "first é\n")
    write_blackbox(blackbox, "second\n")
    assert written_to_blackbox(blackbox) == len("first é\nsecond\n".encode())
    assert read_blackbox(blackbox) == "first é\nsecond\n"
    assert read_blackbox(blackbox) == ""
    write_blackbox(blackbox, "third\n")
    assert read_blackbox(blackbox) == "third\n"


def test_what_does_not_fit_is_lost_and_the_rest_is_read(blackbox):
    write_blackbox(blackbox, "x" * (BLACKBOX_BYTES - 4))
    write_blackbox(blackbox, "123456")
    write_blackbox(blackbox, "more")
    faulthandler.dump_traceback(file=blackbox)
    assert read_blackbox(blackbox) == "x" * (BLACKBOX_BYTES - 4) + "1234"
    faulthandler.dump_traceback(file=blackbox)
    assert "test_what_does_not_fit" in read_blackbox(blackbox)


def test_a_position_far_beyond_the_end_is_read_within_bounds(blackbox):
    os.lseek(blackbox, 2**40, os.SEEK_SET)
    assert read_blackbox(blackbox) == ""
    write_blackbox(blackbox, "here")
    assert read_blackbox(blackbox) == "here"
