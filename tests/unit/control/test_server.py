from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from soniqd.control.client import ControlClient
from soniqd.control.conversation import Limits
from soniqd.control.message import Request
from soniqd.control.peer import Peer
from soniqd.control.server import ControlServer
from soniqd.control.stream import Stream
from soniqd.errors import ConfigurationError, ControlError, DaemonUnreachableError
from tests.support.waiting import eventually


class Echo:
    """Answers with what it was asked, once ``gate`` is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.error: Exception | None = None
        self.peers: list[Peer] = []

    async def __call__(self, request: Request, peer: Peer):
        self.peers.append(peer)
        self.entered.set()
        await self.gate.wait()
        if self.error:
            raise self.error
        return {"command": request.command, **request.params}


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "s.sock"


@asynccontextmanager
async def serving(path, handler=None, **options):
    server = ControlServer(path, handler or Echo(), **options)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def ask(path, command="status", params=None, **options):
    return await asyncio.to_thread(ControlClient(path, timeout_s=5).call, command, params, **options)


async def raw(path):
    return await asyncio.open_unix_connection(str(path))


async def test_a_request_gets_its_handlers_answer(path):
    async with serving(path):
        assert await ask(path, "drain", {"group": "mail"}) == {"command": "drain", "group": "mail"}


async def test_several_requests_may_follow_on_one_connection(path):
    async with serving(path):
        reader, writer = await raw(path)
        for number in (1, 2):
            writer.write(json.dumps({"protocol": 1, "id": number, "command": "status", "params": {}}).encode() + b"\n")
            assert json.loads(await reader.readline())["id"] == number
        writer.close()


async def test_a_request_may_follow_a_stream_that_has_ended(path):
    async def count(request: Request, peer: Peer):
        del peer
        if request.command == "status":
            return {}
        stream = Stream(lost=lambda count: {"lost": count})
        asyncio.get_running_loop().call_later(0.02, stream.end)
        return stream

    async with serving(path, count) as server:
        reader, writer = await raw(path)
        for number, command in ((1, "events"), (2, "status")):
            writer.write(json.dumps({"protocol": 1, "id": number, "command": command, "params": {}}).encode() + b"\n")
            answer: dict[str, object] = {}
            async with asyncio.timeout(5):
                while "ok" not in answer:
                    answer = json.loads(await reader.readline())
            assert answer["id"] == number
        writer.close()
        await eventually(lambda: not server._clients)  # its end is noticed, too


async def test_the_handler_learns_who_asks(path):
    echo = Echo()
    async with serving(path, echo):
        await ask(path)
    assert (echo.peers[0].pid, echo.peers[0].uid) == (os.getpid(), os.getuid())


async def test_the_socket_is_for_owner_and_group_only(path):
    async with serving(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


async def test_the_socket_belongs_to_the_named_group(path):
    async with serving(path, group=str(os.getegid())):
        assert path.stat().st_gid == os.getegid()


async def test_an_unknown_group_is_a_configuration_error(path):
    with pytest.raises(ConfigurationError, match='no group "nobody-of-this-name"'):
        await ControlServer(path, Echo(), group="nobody-of-this-name").start()


async def test_nothing_but_the_socket_is_left_in_its_folder(path):
    async with serving(path):
        assert list(path.parent.iterdir()) == [path]
    assert list(path.parent.iterdir()) == []


async def test_a_missing_folder_is_made(tmp_path):
    async with serving(tmp_path / "run" / "soniq" / "s.sock") as server:
        assert stat.S_IMODE(server.path.parent.stat().st_mode) == 0o755


async def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ControlError, match=r"cannot create the folder .*/file"):
        await ControlServer(tmp_path / "file" / "s.sock", Echo()).start()


async def test_a_path_longer_than_a_unix_address_works(tmp_path):
    folder = tmp_path / ("long" * 30)
    async with serving(folder / "s.sock") as server:
        assert (await ask(server.path))["command"] == "status"


async def test_a_stale_socket_is_replaced(path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(path):
        assert (await ask(path))["command"] == "status"


async def test_a_second_daemon_is_refused_with_the_pid_of_the_first(path):
    async with serving(path):
        with pytest.raises(ControlError, match=rf"another soniqd \(pid {os.getpid()}\) runs here"):
            await ControlServer(path, Echo()).start()
        assert (await ask(path))["command"] == "status"


async def test_of_two_that_start_at_once_one_is_refused(path):
    servers = [ControlServer(path, Echo()) for _ in range(2)]
    results = await asyncio.gather(*(s.start() for s in servers), return_exceptions=True)
    assert [type(r) for r in results if r] == [ControlError]
    assert (await ask(path))["command"] == "status"
    for server in servers:
        await server.close()


async def test_a_file_that_is_no_socket_is_left_alone(path):
    path.write_text("precious")
    with pytest.raises(ControlError, match="is not a socket"):
        await ControlServer(path, Echo()).start()
    assert path.read_text() == "precious"


async def test_close_leaves_a_socket_that_is_another_ones_by_now(path):
    async with serving(path):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
    assert path.exists()


async def test_an_inherited_socket_is_served_and_its_file_is_left_where_it_is(path):
    with socket.socket(socket.AF_UNIX) as inherited:
        inherited.bind(str(path))
        inherited.listen()
        async with serving(path, listen_socket=inherited):
            assert (await ask(path))["command"] == "status"
    assert path.is_socket()


async def test_an_error_of_the_handler_reaches_the_client_with_code_and_problems(path):
    echo = Echo()
    echo.error = ConfigurationError("cannot reload: no good", ("a: bad", "b: postgresql://u:secret@h/d"))
    async with serving(path, echo):
        with pytest.raises(ControlError, match="cannot reload: no good") as caught:
            await ask(path, "reload")
    assert caught.value.context == {
        "code": "SONIQ_CONFIGURATION",
        "problems": ("a: bad", "b: postgresql://u:***@h/d"),
    }


async def test_a_defect_of_the_handler_is_answered_and_logged_without_passwords(path, caplog):
    echo = Echo()
    echo.error = ZeroDivisionError("postgresql://u:secret@h/d")
    async with serving(path, echo):
        with pytest.raises(ControlError, match="internal error in status") as caught:
            await ask(path)
        assert "secret" not in str(caught.value)
        echo.error = None
        assert (await ask(path))["command"] == "status"
    assert [r.event for r in caplog.records] == ["control_handler_failed"]
    assert "secret" not in caplog.records[0].message


async def test_a_client_that_sends_no_complete_request_in_time_is_dropped(path):
    async with serving(path, limits=Limits(request_timeout_s=0.05)):
        reader, writer = await raw(path)
        writer.write(b'{"protocol"')
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_a_client_that_takes_no_response_is_dropped(path):
    class Flood(Echo):
        async def __call__(self, request, peer):
            return {"blob": "x" * 900_000}

    async with serving(path, Flood(), limits=Limits(response_timeout_s=0.05)) as server:
        with socket.socket(socket.AF_UNIX) as slow:
            slow.connect(str(path))
            slow.sendall(b'{"protocol":1,"id":1,"command":"status","params":{}}\n')
            await eventually(lambda: server._clients)
            await eventually(lambda: not server._clients)


async def test_a_line_over_the_limit_is_refused(path):
    async with serving(path):
        reader, writer = await raw(path)
        writer.write(b"x" * (1024 * 1024 + 10))
        answer = json.loads(await asyncio.wait_for(reader.readline(), 5))
        assert "longer than 1048576 bytes" in answer["error"]["message"]
        writer.close()


async def test_clients_over_the_limit_are_told_so(path):
    echo = Echo()
    echo.gate.clear()
    async with serving(path, echo, limits=Limits(clients=1)):
        first = asyncio.create_task(ask(path))
        await echo.entered.wait()
        with pytest.raises(ControlError, match="too many clients"):
            await ask(path)
        echo.gate.set()
        assert await first


async def test_a_slow_client_does_not_delay_another(path):
    async with serving(path):
        _, writer = await raw(path)
        writer.write(b'{"proto')
        assert (await ask(path))["command"] == "status"
        writer.close()


async def test_another_protocol_is_told_what_to_upgrade(path):
    async with serving(path):
        reader, writer = await raw(path)
        writer.write(b'{"protocol": 0, "id": 1, "command": "status", "params": {}}\n')
        assert "upgrade soniqctl" in json.loads(await reader.readline())["error"]["message"]
        writer.close()


async def test_close_lets_a_response_on_its_way_arrive(path):
    echo = Echo()
    echo.gate.clear()
    async with serving(path, echo, limits=Limits(close_timeout_s=5)) as server:
        asking = asyncio.create_task(ask(path, "stop"))
        await echo.entered.wait()
        closing = asyncio.create_task(server.close())
        echo.gate.set()
        assert await asking == {"command": "stop"}
        await closing


async def test_a_peer_outside_user_and_group_is_refused(path, monkeypatch, caplog):
    monkeypatch.setattr(Peer, "may_control", lambda self, **_: False)
    async with serving(path):
        with pytest.raises(ControlError, match="permission denied"):
            await ask(path)
    assert [r.event for r in caplog.records] == ["control_peer_refused"]


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        (Peer(1, 0, 0), True),
        (Peer(1, 33, 33), True),
        (Peer(1, 44, 50, frozenset({50, 51})), True),
        (Peer(1, 44, 44, frozenset({44})), False),
    ],
    ids=["root", "the daemon's user", "a member of the group", "anybody else"],
)
def test_who_may_control(peer, allowed):
    assert peer.may_control(uid=33, gid=51) is allowed


async def test_no_socket_is_an_unreachable_daemon(path):
    with pytest.raises(DaemonUnreachableError, match=r"no such socket: is it running"):
        await ask(path)


async def test_a_dead_socket_is_an_unreachable_daemon(path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(DaemonUnreachableError, match="nobody listens"):
        await ask(path)


async def test_no_answer_in_time_is_an_unreachable_daemon(path):
    echo = Echo()
    echo.gate.clear()
    async with serving(path, echo):
        with pytest.raises(DaemonUnreachableError, match=r"no answer within 0.05 s"):
            await ask(path, timeout_s=0.05)
        echo.gate.set()


async def test_a_broken_connection_is_an_unreachable_daemon(path):
    async def hang_up(_reader, writer):
        writer.close()

    server = await asyncio.start_unix_server(hang_up, str(path))
    with pytest.raises(DaemonUnreachableError, match="broke the connection"):
        await ask(path)
    server.close()
    await server.wait_closed()
