"""Deadlines of many keys on one timer."""

from __future__ import annotations

import asyncio

from soniqd.worker.deadlines import Deadlines
from tests.support.waiting import eventually


async def test_each_key_expires_once_and_in_order():
    expired: list[str] = []
    deadlines: Deadlines[str] = Deadlines(expired.append)
    for key, timeout_s in (("c", 0.06), ("a", 0.02), ("b", 0.04)):
        deadlines.set(key, timeout_s)
    await eventually(lambda: len(expired) == 3)
    assert expired == ["a", "b", "c"]


async def test_a_cleared_deadline_does_not_expire():
    expired: list[str] = []
    deadlines: Deadlines[str] = Deadlines(expired.append)
    deadlines.set("a", 0.01)
    deadlines.set("b", 0.03)
    deadlines.clear("a")
    deadlines.clear("unknown")
    await eventually(lambda: expired)
    assert expired == ["b"]


async def test_a_deadline_set_by_an_expiry_does_not_delay_the_others():
    expired: list[str] = []

    def on_expired(key: str) -> None:
        expired.append(key)
        if key == "a":
            deadlines.set("late", 60)

    deadlines: Deadlines[str] = Deadlines(on_expired)
    deadlines.set("b", 0.05)
    deadlines.set("a", 0.01)
    await asyncio.wait_for(eventually(lambda: len(expired) == 2), 2)
    deadlines.close()


async def test_after_closing_nothing_expires_until_the_next_one_is_set():
    expired: list[str] = []
    deadlines: Deadlines[str] = Deadlines(expired.append)
    deadlines.set("a", 0.01)
    deadlines.close()
    deadlines.set("b", 0.02)
    await eventually(lambda: expired)
    assert expired == ["b"]
