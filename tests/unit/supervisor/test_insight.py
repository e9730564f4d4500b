"""The master asks the database about its backlog rarely, once at a time, and waits for no answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from soniqd.errors import DatabaseUnavailableError
from soniqd.model import Backlog, LeaderRecord, QueueBacklog
from soniqd.supervisor import insight
from soniqd.supervisor.insight import Insight
from soniqd.supervisor.master import Master


class Backend:
    """Answers as a test says, and counts the questions."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: Callable[[], Awaitable[Backlog]] = self.full

    async def open(self) -> None: ...

    async def full(self) -> Backlog:
        return Backlog((QueueBacklog("default", ready=3, oldest_s=1.23456),), {"unheard": 2})

    async def backlog(self) -> Backlog:
        self.asked += 1
        return await self.answer()

    async def leader(self, name: str) -> LeaderRecord | None:
        return LeaderRecord("web2", 9)


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def ledger() -> Any:
    return SimpleNamespace(up=True)


@pytest.fixture
def master_insight(backend: Backend, ledger: Any) -> Insight:
    return Insight(cast("Master", SimpleNamespace(backend=backend, ledger=ledger, processes={})))


async def never() -> Backlog:
    await asyncio.Event().wait()
    raise AssertionError


async def refused() -> Backlog:
    raise DatabaseUnavailableError("cannot reach postgresql://u:secret@h/d")


async def broken() -> Backlog:
    raise ValueError("a defect")


async def test_nothing_is_known_before_the_first_answer(master_insight: Insight):
    known = master_insight.backlog()
    assert (known["queues"], known["unclaimable"], known["backlog_age_s"]) == (None, None, None)


async def test_a_look_is_shown(master_insight: Insight):
    await master_insight.look()
    known = master_insight.backlog()
    [queue] = known["queues"]
    assert (queue["name"], queue["ready"], queue["oldest_s"]) == ("default", 3, 1.235)
    assert known["unclaimable"] == {"unheard": 2}
    assert known["leader"] == {"hostname": "web2", "pid": 9, "slot": None}
    assert known["backlog_age_s"] < 1


async def test_who_asks_again_soon_gets_the_same_answer(master_insight: Insight, backend: Backend):
    await asyncio.gather(*(master_insight.look() for _ in range(5)))
    await master_insight.look()
    assert backend.asked == 1


async def test_a_dear_answer_is_kept_longer(master_insight: Insight, backend: Backend, monkeypatch):
    monkeypatch.setattr(insight, "LEAST_INTERVAL_S", 0.0)
    monkeypatch.setattr(insight, "SHARE", 0.001)
    now_s = 100.0
    monkeypatch.setattr(insight, "time", SimpleNamespace(monotonic=lambda: now_s))

    async def dear() -> Backlog:
        nonlocal now_s
        now_s += 0.02
        return Backlog()

    backend.answer = dear
    await master_insight.look()
    now_s += 19.0
    await master_insight.look()
    assert backend.asked == 1
    now_s += 2.0
    await master_insight.look()
    assert backend.asked == 2


async def test_nobody_waits_for_a_database_that_does_not_answer(master_insight: Insight, backend: Backend, monkeypatch):
    monkeypatch.setattr(insight, "PATIENCE_S", 0.05)
    backend.answer = never
    began = time.monotonic()
    for _ in range(3):
        await master_insight.look()
    assert time.monotonic() - began < 2
    assert backend.asked == 1, "one question at a time"
    assert master_insight.backlog()["queues"] is None
    assert master_insight._asking is not None
    master_insight._asking.cancel()


async def test_a_question_is_given_up(master_insight: Insight, backend: Backend, monkeypatch):
    monkeypatch.setattr(insight, "TIMEOUT_S", 0.01)
    backend.answer = never
    await master_insight.look()
    assert master_insight.backlog()["backlog_error"] == "no answer within 0.01 s"


async def test_an_old_answer_outlives_a_failure(master_insight: Insight, backend: Backend, monkeypatch):
    monkeypatch.setattr(insight, "LEAST_INTERVAL_S", 0.0)
    monkeypatch.setattr(insight, "SHARE", 1e9)
    await master_insight.look()
    backend.answer = refused
    await master_insight.look()
    known = master_insight.backlog()
    assert known["queues"]
    assert "secret" not in known["backlog_error"]
    backend.answer = backend.full
    await master_insight.look()
    assert master_insight.backlog()["backlog_error"] is None


async def test_a_defect_is_logged_and_the_status_comes(master_insight: Insight, backend: Backend, caplog):
    backend.answer = broken
    await master_insight.look()
    assert master_insight.backlog()["backlog_error"] == "ValueError: a defect"
    assert [record.__dict__["event"] for record in caplog.records] == ["duty_failed"]


@pytest.mark.parametrize("up", [False, None])
async def test_a_database_that_is_down_is_not_asked(master_insight: Insight, backend: Backend, ledger: Any, up: Any):
    ledger.up = up
    await master_insight.look()
    assert backend.asked == 0


def child(phase: str, pid: int) -> Any:
    return SimpleNamespace(state=SimpleNamespace(phase=phase), pid=pid, spec=SimpleNamespace(slot="scheduler/1"))


async def test_what_a_child_says_of_its_leading_is_newer(master_insight: Insight, monkeypatch):
    await master_insight.look()
    monkeypatch.setattr("socket.gethostname", lambda: "web2")
    processes = cast("dict[str, Any]", master_insight._master.processes)
    processes["c"] = child("following", 9)
    assert master_insight.backlog()["leader"] is None, "it led when the database was asked, and does no more"
    processes["c"] = child("leading", 10)
    assert master_insight.backlog()["leader"] == {"hostname": "web2", "pid": 10, "slot": "scheduler/1"}
