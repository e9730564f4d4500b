import asyncio
import json
import select
import socket
from typing import Any

import pytest

from soniqd.control import link as wire
from soniqd.roles.link import Link
from tests.support.waiting import eventually


class Heard:
    """A link with a fake child around it, and the master's end."""

    def __init__(self) -> None:
        self.master, child = socket.socketpair()
        self.master.setblocking(False)
        self.messages: list[wire.Message] = []
        self.losses = 0
        self.link = Link(child, asyncio.get_running_loop(), on_message=self.messages.append, on_lost=self._lost)
        self.link.start()

    def _lost(self) -> None:
        self.losses += 1

    async def read(self, size: int = 65536) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.master, size)

    def read_lines(self) -> list[dict[str, Any]]:
        """What the master can read now."""
        data = b""
        try:
            while chunk := self.master.recv(1 << 20):
                data += chunk
        except BlockingIOError:
            pass
        return [json.loads(line) for line in data.splitlines()]

    def has_read(self) -> bool:
        """Whether the child has taken what the master has sent."""
        return not select.select([self.link._sock], [], [], 0)[0]

    def fill(self) -> None:
        """Send until the socket takes no more."""
        while not self.link._unsent:
            self.link.send(wire.Leaving("x" * 4000))


@pytest.fixture
async def heard():
    heard = Heard()
    yield heard
    heard.link.close(patience_s=0)
    heard.master.close()


async def test_messages_arrive_one_by_one_however_they_are_cut(heard):
    lines = wire.encode(wire.Wake()) + wire.encode(wire.Drain(1.5))
    for cut in (lines[:5], lines[5:40], lines[40:]):
        heard.master.send(cut)
        await eventually(heard.has_read)
    await eventually(lambda: len(heard.messages) == 2)
    assert heard.messages == [wire.Wake(), wire.Drain(1.5)]


async def test_the_end_of_file_is_told_once_and_after_what_came_before_it(heard):
    heard.master.send(wire.encode(wire.Pause()))
    heard.master.close()
    await eventually(lambda: heard.losses)
    assert heard.messages == [wire.Pause()]
    heard.link.send(wire.Ready(1))
    assert (heard.losses, heard.link.lost) == (1, True)


@pytest.mark.parametrize("rubbish", [b"no json\n", b'{"type": "launch"}\n', b"x" * (wire.MAX_LINE + 1)])
async def test_a_master_that_breaks_the_protocol_counts_as_gone(heard, rubbish):
    await asyncio.get_running_loop().sock_sendall(heard.master, rubbish)
    await eventually(lambda: heard.losses)
    assert heard.messages == []


async def test_what_is_sent_is_read_by_the_master(heard):
    heard.link.send(wire.Ready(4711))
    heard.link.send(wire.State("running", in_flight=1))
    assert wire.decode((await heard.read()).splitlines()[0]) == wire.Ready(4711)


async def test_a_master_that_does_not_read_blocks_nothing_and_gets_the_newest_state(heard):
    heard.fill()
    for number in range(10_000):
        heard.link.send(wire.State("running", done=number))
    assert len(heard.link._unsent) < 2 * wire.MAX_LINE
    received: list[dict[str, Any]] = []

    def newest() -> bool:
        received.extend(heard.read_lines())
        return received[-1].get("done") == 9_999

    await eventually(newest)
    assert [line["type"] for line in received].count("state") == 1


async def test_unsent_messages_are_bounded(heard):
    heard.fill()
    for _ in range(1000):
        heard.link.send(wire.Leaving("x" * 4000))
    assert len(heard.link._unsent) < 2 * wire.MAX_LINE


async def test_a_farewell_is_written_out_before_the_link_closes(heard):
    heard.link.send(wire.State("draining"))
    heard.link.send(wire.Leaving("done"))
    heard.link.close(patience_s=1)
    lines = [json.loads(line) for line in (await heard.read()).splitlines()]
    assert [line["type"] for line in lines] == ["state", "leaving"]
    assert await heard.read() == b""


async def test_closing_does_not_wait_for_a_master_that_does_not_read(heard):
    heard.fill()
    before = asyncio.get_running_loop().time()
    heard.link.close(patience_s=0.05)
    assert asyncio.get_running_loop().time() - before < 1
