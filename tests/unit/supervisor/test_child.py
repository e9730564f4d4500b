"""The master's end of one child must survive whatever the child does with its end."""

from __future__ import annotations

import asyncio
import os

import pytest

from soniqd.control import link
from soniqd.model.child import ChildSpec
from soniqd.supervisor.child import ChildProcess
from soniqd.supervisor.reaper import Reaper
from tests.support.waiting import eventually


@pytest.fixture
async def child():
    loop = asyncio.get_running_loop()
    child = ChildProcess(ChildSpec("worker", "default", 1, 1, "w1"), loop, Reaper(loop), tap_fd=0)
    yield child
    child.close()


async def test_a_child_cannot_truncate_the_memory_that_the_master_reads(child):
    for fd in (child.box.memory_fd, child.box.blackbox_fd):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
    assert child.tick == 0


async def test_one_call_reads_a_bounded_amount_of_a_talkative_link(child):
    line = link.encode(link.State(phase="running"))
    heard: list[link.Message] = []
    child._on_message = lambda _, message: heard.append(message)
    child.far_link.setblocking(False)
    sent = 0
    while sent < 100_000:
        try:
            sent += child.far_link.send(line * 100)
        except BlockingIOError:
            break
    assert child._read()
    assert 0 < len(heard) * len(line) <= link.MAX_LINE


async def test_a_line_that_is_no_message_ends_the_conversation_and_not_the_master(child):
    child.far_link.send(b"\xff\xfe not json\n")
    child._read()
    child.send(link.Wake())
    assert not child._linked


async def test_a_line_without_an_end_is_not_kept_for_ever(child):
    child.far_link.setblocking(False)
    for _ in range(40):
        try:
            child.far_link.send(b"x" * link.MAX_LINE)
        except (BlockingIOError, BrokenPipeError):
            break
        child._read()
    child._read()
    assert not child._linked


async def test_sending_to_a_child_that_is_gone_leaves_nothing_behind_in_the_loop(child):
    child.far_ends_sent()
    child.send(link.Wake())
    child.send(link.Wake())
    assert child._unsent == b""


async def test_an_order_reaches_a_child_that_was_woken_too_often_to_listen(child):
    for _ in range(50_000):
        child.send(link.Wake())
    child.send(link.Pause())
    assert child._unsent.endswith(link.encode(link.Pause()))


async def test_a_child_that_reads_nothing_costs_a_bounded_amount(child):
    for _ in range(50_000):
        child.send(link.Wake())
    assert len(child._unsent) < 100_000
    child.far_ends_sent()
    await eventually(lambda: child._unsent == b"")
