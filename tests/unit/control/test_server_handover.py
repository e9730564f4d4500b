"""A server hands its socket and its clients over to the next image of its process; here to a second server object."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from soniqd.control.client import ControlClient
from soniqd.control.message import Request
from soniqd.control.peer import Peer
from soniqd.control.server import ControlServer, OpenSocket
from tests.support.waiting import eventually


class Handler:
    """Answers everything but ``upgrade``, which it never does."""

    async def __call__(self, request: Request, peer: Peer):
        if request.command == "upgrade":
            await asyncio.Event().wait()
        return {"command": request.command}


class Exec:
    """Does to a server what execve(2) does: its descriptors live on, everything else of it is gone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.old = ControlServer(path, Handler())
        self.new: ControlServer | None = None

    async def happen(self, result=None) -> OpenSocket:
        described = self.old.hand_over(answered_later="upgrade")
        kept = replace(
            described,
            fd=os.dup(described.fd),
            connections=tuple(replace(each, fd=os.dup(each.fd)) for each in described.connections),
        )
        name = self.path.with_suffix(".aside")
        self.path.rename(name)  # or closing the old server would remove the file
        await self.old.close()
        name.rename(self.path)
        self.new = ControlServer(self.path, Handler(), handed_over=kept)
        await self.new.start()
        self.new.resume(result or {})
        return described


@pytest.fixture
async def exec_(tmp_path):
    exec_ = Exec(tmp_path / "s.sock")
    await exec_.old.start()
    yield exec_
    await exec_.old.close()
    if exec_.new is not None:
        await exec_.new.close()


def request(command: str) -> bytes:
    return json.dumps({"protocol": 1, "id": 7, "command": command, "params": {}}).encode() + b"\n"


async def connected(exec_: Exec):
    return await asyncio.open_unix_connection(str(exec_.path))


async def test_the_next_image_answers_on_the_same_socket_file(exec_):
    inode = exec_.path.stat().st_ino
    await exec_.happen()
    assert exec_.path.stat().st_ino == inode
    answer = await asyncio.to_thread(ControlClient(exec_.path, timeout_s=5).call, "status")
    assert answer == {"command": "status"}


async def test_the_next_image_removes_the_socket_when_it_ends(exec_):
    await exec_.happen()
    await exec_.new.close()
    assert not exec_.path.exists()


async def test_who_asked_for_the_upgrade_is_answered_by_the_next_image_and_may_go_on(exec_):
    reader, writer = await connected(exec_)
    writer.write(request("upgrade"))
    await eventually(lambda: exec_.old.being_answered() == {"upgrade"})
    await exec_.happen({"version": "2"})
    answer = json.loads(await reader.readline())
    assert (answer["id"], answer["result"]) == (7, {"version": "2"})
    writer.write(request("status"))
    assert json.loads(await reader.readline())["result"] == {"command": "status"}
    writer.close()


async def test_a_request_that_is_half_received_is_completed_in_the_next_image(exec_):
    reader, writer = await connected(exec_)
    whole = request("status")
    writer.write(whole[:20])
    await eventually(lambda: [c.received for c in exec_.old.hand_over(answered_later="").connections] == [whole[:20]])
    await exec_.happen()
    writer.write(whole[20:])
    assert json.loads(await reader.readline())["result"] == {"command": "status"}
    writer.close()


async def test_a_client_that_has_connected_and_said_nothing_is_kept(exec_):
    reader, writer = await connected(exec_)
    await eventually(lambda: exec_.old.hand_over(answered_later="").connections)
    await exec_.happen()
    writer.write(request("status"))
    assert json.loads(await reader.readline())["result"] == {"command": "status"}
    writer.close()


async def test_a_client_that_connects_while_nobody_accepts_is_served_by_the_next_image(exec_):
    described = exec_.old.hand_over(answered_later="")
    kept = replace(described, fd=os.dup(described.fd))
    name = exec_.path.with_suffix(".aside")
    exec_.path.rename(name)
    await exec_.old.close()
    name.rename(exec_.path)
    reader, writer = await connected(exec_)
    writer.write(request("status"))
    exec_.new = ControlServer(exec_.path, Handler(), handed_over=kept)
    await exec_.new.start()
    assert json.loads(await reader.readline())["result"] == {"command": "status"}
    writer.close()


async def test_who_waits_for_another_command_is_not_handed_over(exec_):
    reader, writer = await connected(exec_)
    writer.write(request("upgrade"))
    await eventually(exec_.old.being_answered)
    assert exec_.old.hand_over(answered_later="reload").connections == ()
    writer.close()
    await reader.read()


async def test_who_waits_for_an_upgrade_and_leaves_does_not_end_the_next_image(exec_):
    _, writer = await connected(exec_)
    writer.write(request("upgrade"))
    await eventually(exec_.old.being_answered)
    writer.close()
    await writer.wait_closed()
    await exec_.happen()
    assert await asyncio.to_thread(ControlClient(exec_.path, timeout_s=5).call, "status") == {"command": "status"}


async def test_the_socket_keeps_its_mode(exec_):
    await exec_.happen()
    assert stat.S_IMODE(exec_.path.stat().st_mode) == 0o660
