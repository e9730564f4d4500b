from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from soniqd.log import Event, emit
from soniqd.supervisor.ring import KEPT, Ring

HAPPENED = Event("happened", logging.INFO, "{what} happened")
FAILED = Event("failed", logging.ERROR, "{what} failed")


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("soniqd")
    before = [(logger, logger.level, [(each, each.level) for each in logger.handlers]) for logger in (root, own)]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        for handler, handler_level in handlers:
            handler.setLevel(handler_level)


@pytest.fixture
async def told() -> list[tuple[dict[str, Any], int]]:
    return []


@pytest.fixture
async def ring(told: list[tuple[dict[str, Any], int]]) -> AsyncIterator[Ring]:
    ring = Ring(asyncio.get_running_loop(), on_entry=lambda entry, size: told.append((entry, size)))
    logging.getLogger("soniqd").propagate = False
    ring.attach()
    yield ring
    ring.detach()
    logging.getLogger("soniqd").propagate = True


def everything(_entry: dict[str, Any]) -> bool:
    return True


async def test_it_keeps_events_and_what_libraries_log(ring: Ring, told: list[tuple[dict[str, Any], int]]) -> None:
    emit(HAPPENED, what="a fork")
    logging.getLogger("asyncio").error("a task failed")
    assert [(entry["event"], entry["message"], entry["source"]) for entry in ring.entries] == [
        ("happened", "a fork happened", "soniqd"),
        ("log", "a task failed", "soniqd"),
    ]
    assert [entry for entry, _ in told] == list(ring.entries)


async def test_it_keeps_the_last_thousand(ring: Ring) -> None:
    for number in range(KEPT + 5):
        emit(HAPPENED, what=number)
    assert len(ring.entries) == KEPT
    assert ring.entries[0]["what"] == 5


async def test_it_keeps_what_a_quiet_log_leaves_out(ring: Ring) -> None:
    class Log(logging.Handler):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[str] = []

        def emit(self, record: logging.LogRecord) -> None:
            self.seen.append(record.getMessage())

    log, own = Log(), logging.getLogger("soniqd")
    ring.detach()
    own.addHandler(log)
    own.setLevel(logging.ERROR)
    ring.attach()
    emit(HAPPENED, what="it")
    emit(FAILED, what="it")
    own.removeHandler(log)
    assert [entry["event"] for entry in ring.entries] == ["happened", "failed"]
    assert log.seen == ["it failed"]


async def test_the_last_ones_are_told_and_those_to_come(ring: Ring) -> None:
    for number in range(5):
        emit(HAPPENED, what=number)
    stream = ring.follow(everything, last=2, follow=True)
    emit(HAPPENED, what=5)
    assert [entry["what"] for entry in await stream.take()] == [3, 4, 5]
    stream.close()
    emit(HAPPENED, what=6)
    assert await stream.take() == ()
    assert ring.followers == 0


async def test_without_follow_the_answer_ends(ring: Ring) -> None:
    for number in range(KEPT):
        emit(HAPPENED, what=number)
    stream = ring.follow(everything, last=KEPT, follow=False)
    taken: list[int] = []
    while entries := await stream.take():
        taken += [entry["what"] for entry in entries]
    assert taken == list(range(KEPT))


async def test_only_what_is_wanted_counts_and_is_told(ring: Ring) -> None:
    emit(FAILED, what=1)
    for number in range(5):
        emit(HAPPENED, what=number)
    stream = ring.follow(lambda entry: entry["event"] == "failed", last=1, follow=True)
    emit(HAPPENED, what=5)
    emit(FAILED, what=2)
    stream.end()
    assert [entry["what"] for entry in await stream.take()] == [1, 2]


async def test_an_endless_event_is_cut(ring: Ring) -> None:
    emit(FAILED, what="x" * 1_000_000)
    [entry] = ring.entries
    assert len(str(entry)) < 20_000
    assert entry["message"].endswith("x failed")


async def test_an_earlier_image_and_this_one_make_one_story(ring: Ring) -> None:
    emit(HAPPENED, what="since")
    ring.fill([{"event": "before", "message": "before"}])
    assert [entry["event"] for entry in ring.entries] == ["before", "happened"]


async def test_other_threads_may_log(ring: Ring) -> None:
    stream = ring.follow(everything, last=0, follow=True)
    thread = threading.Thread(target=emit, args=(HAPPENED,), kwargs={"what": "in a thread"})
    thread.start()
    async with asyncio.timeout(5):
        [entry] = await stream.take()
    thread.join()
    assert entry["what"] == "in a thread"
