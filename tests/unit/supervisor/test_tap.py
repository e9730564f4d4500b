from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from soniqd.control.link import Follow
from soniqd.control.stream import Stream
from soniqd.model.child import ChildSpec
from soniqd.supervisor.child import ChildProcess
from soniqd.supervisor.tap import Tap, Wanted
from tests.support.waiting import eventually

OFF = Follow(level=None)


@dataclass(eq=False)
class Child:
    """A child that keeps what it is told."""

    spec: ChildSpec
    told: list[Follow] = field(default_factory=list)

    def send(self, message: Follow) -> None:
        self.told.append(message)


def child(group: str, index: int = 1) -> Child:
    return Child(ChildSpec("worker", group, index, generation=1, worker_id=f"{group}-{index}"))


class Host:
    def __init__(self, *children: Child) -> None:
        self.children = list(children)
        self.tap = Tap(asyncio.get_running_loop(), children=lambda: cast("list[ChildProcess]", self.children))

    def say(self, **entry: Any) -> None:
        self.tap.far.send(json.dumps({"level": "INFO", "slot": "mail/1", **entry}).encode())

    def welcome(self, newcomer: Child, *, resumed: bool = False) -> None:
        self.children.append(newcomer)
        self.tap.welcome(cast("ChildProcess", newcomer), resumed=resumed)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    host = Host(child("mail"), child("web"))
    yield host
    host.tap.close()


async def messages(stream: Stream) -> list[str]:
    async with asyncio.timeout(5):
        return [entry["message"] for entry in await stream.take()]


async def test_children_are_told_when_somebody_follows_and_when_nobody_does(host: Host) -> None:
    stream = host.tap.follow(Wanted())
    assert [each.told for each in host.children] == [[Follow(0)], [Follow(0)]]
    stream.close()
    assert [each.told[1:] for each in host.children] == [[OFF], [OFF]]


async def test_only_the_children_concerned_are_told(host: Host) -> None:
    mail, web = host.children
    stream = host.tap.follow(Wanted(group="mail"))
    assert (mail.told, web.told) == ([Follow(0)], [])
    host.tap.follow(Wanted(slot="web/1", level=logging.ERROR))
    assert (mail.told, web.told) == ([Follow(0)], [Follow(logging.ERROR)])
    stream.close()
    assert (mail.told[1:], web.told[1:]) == ([OFF], [])


async def test_children_copy_what_serves_all_who_follow(host: Host) -> None:
    mail = host.children[0]
    first = host.tap.follow(Wanted(job="a", level=logging.WARNING))
    host.tap.follow(Wanted(job="b"))
    third = host.tap.follow(Wanted(level=logging.ERROR))
    assert mail.told == [Follow(logging.WARNING, ("a",)), Follow(0, ("a", "b")), Follow(0, None)]
    third.close()
    first.close()
    assert mail.told[3:] == [Follow(0, ("a", "b")), Follow(0, ("b",))]


async def test_a_new_child_is_told_only_if_it_is_followed(host: Host) -> None:
    early, late = child("late", 1), child("late", 2)
    host.welcome(early)
    assert early.told == []
    host.tap.follow(Wanted(group="late"))
    host.welcome(late)
    assert (early.told, late.told) == ([Follow(0)], [Follow(0)])


async def test_a_child_of_an_earlier_image_is_told_that_nobody_follows(host: Host) -> None:
    old = child("mail", 2)
    host.welcome(old, resumed=True)
    assert old.told == [OFF]


async def test_each_follower_gets_what_it_wants(host: Host) -> None:
    everything, one_job = host.tap.follow(Wanted()), host.tap.follow(Wanted(job="a"))
    errors, web = host.tap.follow(Wanted(level=logging.ERROR)), host.tap.follow(Wanted(group="web"))
    host.say(message="1", job_id="a")
    host.say(message="2", job_id="b", level="ERROR")
    host.say(message="3", slot="web/2")
    host.say(message="4", level="NOTICE")
    await eventually(lambda: len(everything._waiting) == 4)
    assert await messages(everything) == ["1", "2", "3", "4"]
    assert await messages(one_job) == ["1"]
    assert await messages(errors) == ["2"]
    assert await messages(web) == ["3"]


async def test_the_masters_own_lines_are_told_too(host: Host) -> None:
    stream, web = host.tap.follow(Wanted()), host.tap.follow(Wanted(group="web"))
    host.tap.offer({"message": "reload done", "source": "soniqd", "level": "INFO"}, 10)
    host.tap.offer({"message": "web/1 died", "source": "soniqd", "level": "WARNING", "slot": "web/1"}, 10)
    assert await messages(stream) == ["reload done", "web/1 died"]
    assert await messages(web) == ["web/1 died"]


async def test_what_was_on_its_way_to_nobody_is_not_told_later(host: Host) -> None:
    host.say(message="stale")
    stream = host.tap.follow(Wanted())
    host.say(message="fresh")
    assert await messages(stream) == ["fresh"]


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff", b"[" * 60_000], ids=range(5))
async def test_what_is_no_entry_is_dropped(host: Host, data: bytes) -> None:
    stream = host.tap.follow(Wanted())
    host.tap.far.send(data)
    host.say(message="next")
    assert await messages(stream) == ["next"]


async def test_a_flood_leaves_the_loop_time_for_others(host: Host) -> None:
    """However many lines wait to be read, everything else has its turn after each portion of them."""
    stream = host.tap.follow(Wanted())
    for number in range(900):
        host.say(message=str(number))
    before = largest = 0
    async with asyncio.timeout(10):
        while before < 900:
            await asyncio.sleep(0)
            largest = max(largest, len(stream._waiting) - before)
            before = len(stream._waiting)
    assert largest <= 50


async def test_following_ends_well_after_the_tap_is_closed(host: Host) -> None:
    stream = host.tap.follow(Wanted())
    host.tap.close()
    stream.close()
    assert host.tap.followers == 0
