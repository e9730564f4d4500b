"""What children have done and hold, as the machine is told."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest

from soniqd.control import link
from soniqd.policy.supervision import events as ev
from soniqd.supervisor import measuring
from soniqd.supervisor.measuring import Measuring, private_bytes


def a_child(pid: int | None = None, done: int = 0, failed: int = 0) -> Any:
    return SimpleNamespace(pid=pid, state=link.State("running", done=done, failed=failed))


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(measuring, "INTERVAL_S", 0.0)
    monkeypatch.setattr(measuring, "MEMORY_EVERY", 1)


async def first_told(processes: dict[str, Any], *, watched: tuple[str, ...] = ()) -> ev.Measured:
    told: asyncio.Future[ev.Event] = asyncio.get_running_loop().create_future()
    measuring_ = Measuring(
        cast("Any", processes),
        watches_memory=lambda worker_id: worker_id in watched,
        tell=lambda event: None if told.done() else told.set_result(event),
    )
    measuring_.start()
    try:
        event = await asyncio.wait_for(told, 5)
    finally:
        await measuring_.close()
    assert isinstance(event, ev.Measured)
    return event


async def test_counts_are_told_of_children_that_exist(fast):
    children = {"a": a_child(os.getpid(), done=3, failed=1), "forking": a_child()}
    assert (await first_told(children)).values == {"a": ev.Usage(3, 1, None)}


async def test_memory_is_told_of_those_that_have_a_limit_of_it(fast):
    children = {"a": a_child(os.getpid()), "b": a_child(os.getpid())}
    values = (await first_told(children, watched=("b",))).values
    assert values["a"].memory_bytes is None
    assert 10**6 < (values["b"].memory_bytes or 0) < 10**9


def ended() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


async def test_a_child_that_has_ended_is_not_measured_and_the_others_are(fast):
    children = {"gone": a_child(ended()), "here": a_child(os.getpid())}
    values = (await first_told(children, watched=("gone", "here"))).values
    assert values["gone"].memory_bytes is None
    assert values["here"].memory_bytes


async def test_memory_that_may_not_be_read_is_complained_of_once_and_counts_go_on(fast, monkeypatch, caplog):
    def refuse(_pid: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(measuring, "private_bytes", refuse)
    children = {"a": a_child(os.getpid(), done=1), "b": a_child(os.getpid(), done=2)}
    values = (await first_told(children, watched=("a", "b"))).values
    assert values == {"a": ev.Usage(1, 0, None), "b": ev.Usage(2, 0, None)}
    assert [record.levelname for record in caplog.records if "max_memory does nothing" in record.getMessage()] == [
        "ERROR"
    ]


async def test_a_defect_in_one_round_does_not_end_the_next_ones(fast):
    told: list[ev.Event] = []
    enough = asyncio.Event()

    def tell(event: ev.Event) -> None:
        told.append(event)
        if len(told) > 1:
            enough.set()
        raise RuntimeError("a defect")

    measuring_ = Measuring({}, watches_memory=lambda _: False, tell=tell)
    measuring_.start()
    await asyncio.wait_for(enough.wait(), 5)
    await measuring_.close()


FORKS = """
import os, sys
shared = os.urandom(1_000_000) * 100
sys.stdout.write("ready\\n"); sys.stdout.flush()
pid = os.fork()
if pid == 0:
    own = os.urandom(1_000_000) * 30
    sys.stdout.write(f"{os.getpid()}\\n"); sys.stdout.flush()
sys.stdin.read()
"""


def test_only_what_is_not_shared_counts():
    with subprocess.Popen([sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        assert parent.stdin
        parent.stdout.readline()
        child = int(parent.stdout.readline())
        try:
            assert 30_000_000 < private_bytes(child) < 60_000_000
            assert private_bytes(parent.pid) < 30_000_000
        finally:
            parent.stdin.close()
