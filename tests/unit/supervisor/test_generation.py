"""What a fork server is asked for, and how fast."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from soniqd.control import fork as wire
from soniqd.model.child import ChildSpec, ExitCause
from soniqd.supervisor.child import ChildProcess
from soniqd.supervisor.forkserver import MAX_ASKED
from soniqd.supervisor.generation import Generation, GenerationHandover
from soniqd.supervisor.reaper import Reaper
from tests.support.waiting import eventually

CHILDREN = 300


class Heard:
    """What is told of children; the fork server itself has nothing to tell."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.forked: list[str] = []

    def generation_booted(self, generation: int, booted: wire.Booted) -> None:
        raise AssertionError((generation, booted))

    def generation_boot_failed(self, generation: int, failed: wire.BootFailed | None, cause: str) -> None:
        raise AssertionError((generation, failed, cause))

    def generation_lost(self, generation: int, cause: ExitCause) -> None:
        raise AssertionError((generation, cause))

    def child_forked(self, child: ChildProcess, pid: int) -> None:
        del pid
        self.forked.append(child.spec.worker_id)

    def fork_failed(self, child: ChildProcess, reason: str) -> None:
        del reason
        self.failed.append(child.spec.worker_id)


@pytest.fixture
def server() -> Iterator[tuple[int, socket.socket, socket.socket]]:
    """A process that stands for a fork server, the master's socket, and the other end of it."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    far.setblocking(False)
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid, near, far
        process.kill()
    far.close()


def asked(far: socket.socket) -> list[wire.Fork]:
    """Take all requests that have come."""
    found: list[wire.Fork] = []
    while True:
        try:
            packet, descriptors, _, _ = socket.recv_fds(far, wire.MAX_PACKET, 8)
        except BlockingIOError:
            return found
        for fd in descriptors:
            os.close(fd)
        message = wire.decode(packet)
        assert isinstance(message, wire.Fork)
        found.append(message)


async def test_a_fork_server_is_asked_for_few_children_at_once_and_in_the_end_for_all(server):
    pid, near, far = server
    loop, heard = asyncio.get_running_loop(), Heard()
    reaper = Reaper(loop)
    handover = GenerationHandover(1, "python", {}, (), True, 1, pid, near.detach())
    generation = Generation.resume(handover, loop=loop, reaper=reaper, events=heard, soft_nofile=None)
    children = [ChildProcess(ChildSpec("worker", "g", n, 1, f"w{n}"), loop, reaper, tap_fd=2) for n in range(CHILDREN)]
    try:
        for child in children:
            generation.fork(child)
        given_up = children[MAX_ASKED]
        generation.forget(given_up)
        wanted: list[str] = []
        while requests := asked(far):
            assert len(requests) <= MAX_ASKED
            for request in requests:
                wanted.append(request.spec.worker_id)
                far.send(wire.encode(wire.Forked(request.request, 4711)))
            await eventually(lambda: len(heard.forked) == len(wanted))
        assert wanted == [child.spec.worker_id for child in children if child is not given_up]
        assert heard.forked == wanted
        assert heard.failed == []
        assert generation.outstanding is None
    finally:
        generation.retire()
        reaper.close()
        for child in children:
            child.close()


async def test_children_that_wait_to_be_asked_for_fail_with_their_fork_server(server):
    pid, near, far = server
    loop, heard = asyncio.get_running_loop(), Heard()
    reaper = Reaper(loop)
    handover = GenerationHandover(1, "python", {}, (), True, 1, pid, near.detach())
    generation = Generation.resume(handover, loop=loop, reaper=reaper, events=heard, soft_nofile=None)
    children = [ChildProcess(ChildSpec("worker", "g", n, 1, f"w{n}"), loop, reaper, tap_fd=2) for n in range(20)]
    try:
        for child in children:
            generation.fork(child)
        assert len(asked(far)) == MAX_ASKED
        generation.retire()
        assert heard.failed == [child.spec.worker_id for child in children]
    finally:
        reaper.close()
        for child in children:
            child.close()
