"""What the service manager hears: sd_notify(3) over a real datagram socket."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon


class Manager:
    """The service manager's end of $NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._receiver.setblocking(False)
        self._receiver.bind(str(path))

    async def hears(self, state: str) -> dict[str, str]:
        """Wait for a datagram with this assignment; return all of its assignments."""
        async with asyncio.timeout(20):
            while True:
                datagram = await asyncio.get_running_loop().sock_recv(self._receiver, 4096)
                assignments = dict(line.split("=", 1) for line in datagram.decode().split("\n"))
                if state in datagram.decode().split("\n"):
                    return assignments

    def close(self) -> None:
        self._receiver.close()


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


@pytest.fixture
async def daemon(tmp_path: Path, manager: Manager) -> AsyncIterator[Daemon]:
    async with Daemon(tmp_path, environ={"NOTIFY_SOCKET": str(manager.path)}) as started:
        yield started


async def test_start_reload_and_stop_are_told(daemon: Daemon, manager: Manager) -> None:
    await manager.hears("READY=1")
    daemon.signal(signal.SIGHUP)
    reloading = await manager.hears("RELOADING=1")
    assert int(reloading["MONOTONIC_USEC"]) > 0
    await manager.hears("READY=1")
    daemon.signal(signal.SIGTERM)
    await manager.hears("STOPPING=1")
    assert await daemon.exit_code() == 0


async def test_a_reload_that_fails_ends_for_the_manager_too(daemon: Daemon, manager: Manager) -> None:
    await manager.hears("READY=1")
    daemon.write_jobs("this is no Python")
    daemon.signal(signal.SIGHUP)
    await manager.hears("RELOADING=1")
    await manager.hears("READY=1")


async def test_the_status_counts_children(daemon: Daemon, manager: Manager) -> None:
    await manager.hears("STATUS=running: 2 children, 0 jobs running")
