"""What a daemon tells its service manager (sd_notify(3)), and how its processes are called."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.processes import find_process


class ServiceManager:
    """The receiving end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)
        self.heard: list[dict[str, str]] = []
        asyncio.get_running_loop().add_reader(self._socket, self.listen)

    def listen(self) -> list[dict[str, str]]:
        while True:
            try:
                datagram = self._socket.recv(4096).decode()
            except BlockingIOError:
                return self.heard
            self.heard.append(dict(line.split("=", 1) for line in datagram.splitlines()))

    def said(self, name: str) -> int:
        return sum(name in datagram for datagram in self.listen())

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


@pytest.fixture
async def manager(tmp_path):
    manager = ServiceManager(tmp_path / "notify")
    yield manager
    manager.close()


async def test_ready_status_and_stopping_reach_the_service_manager_in_order(tmp_path, manager):
    async with Daemon(tmp_path, environ={"NOTIFY_SOCKET": manager.address}) as daemon:
        await daemon.eventually(lambda: manager.said("READY"))
        await daemon.eventually(lambda: any("2 children" in d.get("STATUS", "") for d in manager.listen()))
        assert manager.said("STOPPING") == 0
        await daemon.stop()
    order = [name for datagram in manager.listen() for name in datagram if name in ("READY", "STOPPING")]
    assert order[0] == "READY"
    assert order[-1] == "STOPPING"


async def test_a_reload_is_announced_with_its_start_time_and_its_end(tmp_path, manager):
    async with Daemon(tmp_path, environ={"NOTIFY_SOCKET": manager.address}) as daemon:
        await daemon.eventually(lambda: manager.said("READY"))
        daemon.signal(signal.SIGHUP)
        await daemon.log_event("reload_done")
        await daemon.eventually(lambda: manager.said("READY") == 2, message=f"{manager.heard}")
        reloading = next(datagram for datagram in manager.listen() if "RELOADING" in datagram)
        assert int(reloading["MONOTONIC_USEC"]) > 0


async def test_every_process_is_named_for_what_it_is(tmp_path):
    async with Daemon(tmp_path, workers={"name": "mail", "processes": 2}) as daemon:
        titles = {process.command for process in daemon.processes()}
        assert titles == {
            "soniqd: fork server gen 1",
            "soniqd: scheduler [leading]",
            "soniqd: worker mail/1 [idle]",
            "soniqd: worker mail/2 [idle]",
        }
        master = find_process(daemon.pid)
        assert master is not None
        assert master.command == f"soniqd: master {daemon.config}"


async def test_usr1_writes_the_state_to_the_log(tmp_path):
    async with Daemon(tmp_path) as daemon:
        daemon.signal(signal.SIGUSR1)
        record = await daemon.log_event("state_dumped")
        assert '"generation": 1' in record["state"]
