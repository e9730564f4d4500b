"""What a fork server is asked for, and how fast."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from soniqd.control import fork as wire
from soniqd.model.child import ChildSpec, ExitCause, ProcessAttributes
from soniqd.supervisor.child import ChildProcess
from soniqd.supervisor.forkserver import MAX_ASKED
from soniqd.supervisor.generation import Generation, GenerationHandover
from soniqd.supervisor.interpreter import StartedServer
from soniqd.supervisor.reaper import Reaper
from soniqd.version import __version__
from tests.support.waiting import eventually

CHILDREN = 300


class Heard:
    """What is told of children; the fork server itself has nothing to tell."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.reasons: list[str] = []
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
        self.failed.append(child.spec.worker_id)
        self.reasons.append(reason)


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


TOO_LONG = ProcessAttributes(env=(("PADDING", "x" * wire.MAX_PACKET),))


async def test_a_child_whose_request_does_not_fit_a_packet_fails_and_says_so(server):
    pid, near, far = server
    loop, heard = asyncio.get_running_loop(), Heard()
    reaper = Reaper(loop)
    handover = GenerationHandover(1, "python", {}, (), True, 1, pid, near.detach())
    generation = Generation.resume(handover, loop=loop, reaper=reaper, events=heard, soft_nofile=None)
    specs = [ChildSpec("worker", "g", 1, 1, "w1", attributes=TOO_LONG), ChildSpec("worker", "g", 2, 1, "w2")]
    children = [ChildProcess(spec, loop, reaper, tap_fd=2) for spec in specs]
    try:
        for child in children:
            generation.fork(child)
        await eventually(lambda: heard.failed)
        assert heard.failed == ["w1"]
        assert "cannot send fork: " in heard.reasons[0]
        assert [request.spec.worker_id for request in asked(far)] == ["w2"]
    finally:
        generation.retire()
        reaper.close()
        for child in children:
            child.close()


class Master(Heard):
    """Gives up what has failed, as the master does."""

    generation: Generation | None = None

    def fork_failed(self, child: ChildProcess, reason: str) -> None:
        super().fork_failed(child, reason)
        assert self.generation is not None
        self.generation.forget(child)


@pytest.mark.parametrize("ending", ["refused", "gone", "gone before it is asked", "rubbish", "given up", "too long"])
async def test_a_child_of_an_interpreter_of_its_own_is_no_longer_expected_once_it_has_failed(server, ending):
    """A count of forks that is too low lets the exits of other children be missed."""
    pid, near, far = server
    far.setblocking(True)
    far.settimeout(5)
    loop = asyncio.get_running_loop()
    defects: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: defects.append(context))
    reaper = Reaper(loop)
    heard = Master()
    settings = {"jobs": {"import_timeout": 60}}
    generation = heard.generation = Generation(
        1, python=None, settings=settings, loop=loop, reaper=reaper, events=heard, early=StartedServer(pid, near)
    )
    generation._forkable = False
    attributes = TOO_LONG if ending == "too long" else ProcessAttributes()
    child = ChildProcess(ChildSpec("worker", "g", 1, 1, "w", attributes=attributes), loop, reaper, tap_fd=2)
    try:
        generation.fork(child)
        assert isinstance(wire.decode(far.recv(wire.MAX_PACKET)), wire.Boot)
        assert reaper._expected == 1
        far.send(wire.encode(wire.Booted(__version__, "python", (), (), ("collector",), 0.1)))
        if ending == "gone before it is asked":
            far.close()
        elif ending != "too long":
            far.setblocking(False)
            (request,) = await eventually(lambda: asked(far))
        if ending == "refused":
            far.send(wire.encode(wire.ForkFailed(request.request, "no more processes")))
        elif ending == "rubbish":
            far.send(b"rubbish")
        elif ending.startswith("gone"):
            far.close()
        elif ending == "given up":
            heard.fork_failed(child, "given up")
        await eventually(lambda: heard.failed)
        await eventually(lambda: generation.outstanding is None)
        assert (heard.failed, reaper._expected, defects) == (["w"], 0, [])
    finally:
        generation.retire()
        reaper.close()
        child.close()


async def test_settings_that_do_not_fit_a_packet_fail_the_boot_and_say_so():
    class Told(Heard):
        def generation_boot_failed(self, generation: int, failed: wire.BootFailed | None, cause: str) -> None:
            assert failed is not None
            self.failed.append(f"{generation}: {failed.problems} {cause}")

    loop, heard = asyncio.get_running_loop(), Told()
    reaper = Reaper(loop)
    settings = {"jobs": {"import_timeout": 5.0, "modules": ["m" * wire.MAX_PACKET]}}
    generation = Generation(
        7, python=sys.executable, settings=settings, loop=loop, reaper=reaper, events=heard, soft_nofile=None
    )
    try:
        generation.boot()
        await eventually(lambda: heard.failed)
        assert "7: " in heard.failed[0]
        assert "the configuration is too long for a fork server" in heard.failed[0]
        await generation.gone()
    finally:
        reaper.close()
