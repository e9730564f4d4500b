from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from pathlib import Path

import pytest

from soniqd.control.client import ControlClient
from soniqd.control.conversation import Limits
from soniqd.control.message import Request
from soniqd.control.server import ControlServer
from soniqd.control.stream import Stream
from soniqd.errors import ControlError, DaemonUnreachableError
from tests.support.waiting import eventually


def lost(count):
    return {"lost": count}


async def take_all(stream):
    taken = []
    while items := await stream.take():
        taken += items
    return taken


async def test_items_come_in_their_order_and_then_the_end():
    stream = Stream(lost=lost)
    for number in range(500):
        stream.offer({"n": number}, 10)
    stream.end()
    assert await take_all(stream) == [{"n": number} for number in range(500)]


async def test_what_does_not_fit_is_told_where_it_is_missing():
    stream = Stream(lost=lost, most_items=2)
    for number in range(5):
        stream.offer({"n": number}, 10)
    assert await stream.take() == ({"n": 0}, {"n": 1}, {"lost": 3})
    stream.offer({"n": 5}, 10)
    assert await stream.take() == ({"n": 5},)


async def test_a_loss_is_told_before_what_is_queued_after_it():
    stream = Stream(lost=lost, most_items=300)
    for number in range(302):
        stream.offer({"n": number}, 10)
    assert len(await stream.take()) == 200
    stream.offer({"n": 302}, 10)
    assert (await stream.take())[-3:] == ({"n": 299}, {"lost": 2}, {"n": 302})


async def test_large_items_are_bounded_by_their_size():
    stream = Stream(lost=lost, most_bytes=1000)
    for _ in range(5):
        stream.offer({"n": "x"}, 400)
    assert await stream.take() == ({"n": "x"}, {"n": "x"}, {"lost": 3})
    stream.offer({"n": "y"}, 1000)
    assert await stream.take() == ({"n": "y"},)


async def test_take_waits_for_something():
    stream = Stream(lost=lost)
    taking = asyncio.create_task(stream.take())
    await asyncio.sleep(0)
    assert not taking.done()
    stream.offer({"n": 1}, 1)
    assert await taking == ({"n": 1},)


async def test_close_tells_its_owner_once_and_takes_nothing_more():
    closed: list[Stream] = []
    stream = Stream(lost=lost, on_close=closed.append)
    stream.offer({"n": 1}, 1)
    stream.close()
    stream.close()
    stream.offer({"n": 2}, 1)
    assert closed == [stream]
    assert await stream.take() == ()


class Source:
    """A handler that opens a stream for "follow" and answers everything else at once."""

    def __init__(self) -> None:
        self.opened: asyncio.Queue[Stream] = asyncio.Queue()
        self.closed: list[Stream] = []

    async def __call__(self, request: Request, _peer):
        if request.command != "follow":
            return {"command": request.command}
        stream = Stream(lost=lost, on_close=self.closed.append)
        self.opened.put_nowait(stream)
        return stream


@contextlib.asynccontextmanager
async def serving(path, source, **limits):
    server = ControlServer(path, source, limits=Limits(**limits))
    await server.start()
    try:
        yield server
    finally:
        await server.close()


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "s.sock"


class Follower:
    """A client that reads line by line."""

    def __init__(self, reader, writer) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, path, command="follow", number=7) -> Follower:
        follower = cls(*await asyncio.open_unix_connection(str(path), limit=1 << 21))
        follower.ask(command, number)
        return follower

    def ask(self, command, number) -> None:
        request = {"protocol": 1, "id": number, "command": command, "params": {}}
        self.writer.write(json.dumps(request).encode() + b"\n")

    async def line(self):
        line = await asyncio.wait_for(self.reader.readline(), 5)
        return json.loads(line) if line else None

    def leave(self) -> None:
        self.writer.close()


async def test_the_first_line_comes_before_there_are_items(path):
    source = Source()
    async with serving(path, source):
        follower = await Follower.connect(path)
        assert (await follower.line())["items"] == []
        stream = await source.opened.get()
        stream.offer({"n": 1}, 10)
        assert await follower.line() == {"protocol": 1, "version": "0.1.0", "id": 7, "items": [{"n": 1}]}
        stream.end()
        assert await follower.line() == {"protocol": 1, "version": "0.1.0", "id": 7, "ok": True, "result": {}}
        follower.leave()


async def test_a_follower_that_leaves_is_forgotten_though_nothing_happens(path):
    source = Source()
    async with serving(path, source):
        follower = await Follower.connect(path)
        await follower.line()
        follower.leave()
        stream = await source.opened.get()
        await eventually(lambda: source.closed == [stream])


async def test_a_follower_that_says_anything_more_has_had_enough(path):
    source = Source()
    async with serving(path, source):
        follower = await Follower.connect(path)
        await follower.line()
        follower.ask("status", 8)
        assert (await follower.line())["id"] == 7
        assert await follower.line() == {
            "protocol": 1,
            "version": "0.1.0",
            "id": 8,
            "ok": True,
            "result": {"command": "status"},
        }
        assert len(source.closed) == 1
        follower.leave()


async def test_a_follower_that_takes_nothing_is_dropped(path):
    source = Source()
    async with serving(path, source, stream_timeout_s=0.2):
        with socket.socket(socket.AF_UNIX) as stuck:
            stuck.connect(str(path))
            stuck.sendall(b'{"protocol": 1, "id": 1, "command": "follow", "params": {}}\n')
            stream = await source.opened.get()
            for _ in range(40):
                stream.offer({"text": "x" * 50_000}, 50_000)
            await eventually(lambda: source.closed == [stream])


async def test_a_stuck_follower_delays_nobody_else(path):
    source = Source()
    async with serving(path, source, stream_timeout_s=30):
        with socket.socket(socket.AF_UNIX) as stuck:
            stuck.connect(str(path))
            stuck.sendall(b'{"protocol": 1, "id": 1, "command": "follow", "params": {}}\n')
            stream = await source.opened.get()
            for _ in range(40):
                stream.offer({"text": "x" * 50_000}, 50_000)
            assert await asyncio.to_thread(ControlClient(path, timeout_s=5).call, "status") == {"command": "status"}
        await eventually(lambda: source.closed == [stream])


async def test_a_shortage_of_descriptors_that_is_over_refuses_no_follower(path):
    async with serving(path, Source()) as server:
        server._spare.close()  # as after a client that has had its place, and is still there
        follower = await Follower.connect(path)
        assert (await follower.line())["items"] == []
        assert server._spare.is_held
        follower.leave()


async def test_there_are_only_so_many_followers(path):
    source = Source()
    async with serving(path, source, streams=1):
        first = await Follower.connect(path)
        await first.line()
        second = await Follower.connect(path)
        assert "too many followers" in (await second.line())["error"]["message"]
        assert len(source.closed) == 1
        for follower in (first, second):
            follower.leave()


async def test_a_follower_that_has_had_enough_makes_room_for_another(path):
    async with serving(path, Source(), streams=1):
        first = await Follower.connect(path)
        await first.line()
        first.ask("status", 8)
        while (await first.line())["id"] != 8:
            pass
        second = await Follower.connect(path)
        assert (await second.line())["items"] == []
        for follower in (first, second):
            follower.leave()


async def test_close_ends_streams_in_good_order(path):
    source = Source()
    async with serving(path, source) as server:
        follower = await Follower.connect(path)
        await follower.line()
        (await source.opened.get()).offer({"n": "last"}, 10)
        await server.close()
        assert (await follower.line())["items"] == [{"n": "last"}]
        assert (await follower.line())["ok"] is True
        follower.leave()


async def test_neither_an_upgrade_nor_what_it_waits_for_counts_followers(path):
    source = Source()
    async with serving(path, source) as server:
        follower = await Follower.connect(path)
        await follower.line()
        assert server.being_answered() == set()
        assert server.hand_over(answered_later="upgrade").connections == ()
        follower.leave()


async def test_the_client_yields_items_until_the_end(path):
    source = Source()

    def follow():
        return [item for items in ControlClient(path, timeout_s=5).follow("follow") for item in items]

    async with serving(path, source):
        following = asyncio.create_task(asyncio.to_thread(follow))
        stream = await source.opened.get()
        for number in range(300):
            stream.offer({"n": number}, 10)
        stream.end()
        assert await following == [{"n": number} for number in range(300)]


async def test_the_client_says_when_the_daemon_is_gone(path):
    async def hang_up(reader, writer):
        await reader.readline()
        writer.write(b'{"protocol": 1, "version": "0.1.0", "id": 1, "items": []}\n')
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(hang_up, str(path))
    with pytest.raises(DaemonUnreachableError, match="broke the connection"):
        await asyncio.to_thread(list, ControlClient(path, timeout_s=5).follow("follow"))
    server.close()
    await server.wait_closed()


async def test_the_client_says_what_is_refused(path):
    async def refuse(_request, _peer):
        raise ControlError("cannot follow: no")

    async with serving(path, refuse):
        with pytest.raises(ControlError, match="cannot follow: no"):
            await asyncio.to_thread(list, ControlClient(path, timeout_s=5).follow("follow"))


async def test_the_client_notices_that_nobody_reads_its_output(path):
    source = Source()
    reader, writer = os.pipe()
    async with serving(path, source):
        following = asyncio.create_task(
            asyncio.to_thread(list, ControlClient(path, timeout_s=5).follow("follow", output=writer))
        )
        await source.opened.get()
        assert not following.done()
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            await following
    os.close(writer)
