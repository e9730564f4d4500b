"""A small master: starts one fork server, asks for children, talks to them, reaps them. For tests without soniqd."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from soniqd.control import fork as wire
from soniqd.control import link
from soniqd.control.memory import MasterMemory, create_blackbox, create_memory, read_blackbox
from soniqd.model.child import ChildSpec
from soniqd.settings import DaemonSettings, dump_settings
from soniqd.version import __version__
from tests.support import proc_files

_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE_S = 20.0

M = TypeVar("M")


def set_subreaper(*, on: bool) -> None:
    """Adopt orphaned descendants, or no longer."""
    assert ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) == 0


class StubChild:
    """One child and the master's ends of what it shares with it."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.pid = 0
        self.link, self.far_link = socket.socketpair()
        self.memory_fd = create_memory(spec.concurrency)
        self.blackbox_fd = create_blackbox()
        self.memory = MasterMemory(self.memory_fd)
        self.tap, self._far_tap = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._buffer = b""
        self._status: os.waitid_result | None = None
        self.heard: list[link.Message] = []

    @property
    def tick(self) -> int:
        return self.memory.tick

    @property
    def stacks(self) -> str:
        """What has come into its black box since this was last asked."""
        return read_blackbox(self.blackbox_fd)

    @property
    def far_ends(self) -> wire.ChildDescriptors:
        return wire.ChildDescriptors(self.far_link.fileno(), self.memory_fd, self.blackbox_fd, self._far_tap.fileno())

    @property
    def title(self) -> str:
        return proc_files.title(self.pid)

    def tell(self, message: link.Message) -> None:
        self.link.sendall(link.encode(message))

    def hear(self, kind: type[M], *, timeout_s: float = _PATIENCE_S, **fields: Any) -> M:
        """Read until a message of this kind with these fields was heard; earlier ones stay in ``heard``."""
        deadline = time.monotonic() + timeout_s
        while True:
            message = self._next(deadline)
            assert message is not None, f"the link ended before {kind.__name__} {fields}: heard {self.heard}"
            if isinstance(message, kind) and all(getattr(message, name) == value for name, value in fields.items()):
                return message

    def hear_rest(self, *, timeout_s: float = _PATIENCE_S) -> list[link.Message]:
        """Read to the end of the link."""
        deadline = time.monotonic() + timeout_s
        while self._next(deadline) is not None:
            pass
        return self.heard

    def _next(self, deadline: float) -> link.Message | None:
        while b"\n" not in self._buffer:
            self.link.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                received = self.link.recv(65536)
            except TimeoutError:
                raise AssertionError(f"{self.spec.slot} does not say it; heard {self.heard}") from None
            except ConnectionResetError:
                return None
            if not received:
                return None
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        message = link.decode(line)
        self.heard.append(message)
        return message

    def kill(self, signum: signal.Signals = signal.SIGKILL) -> None:
        os.kill(self.pid, signum)

    def wait(self, *, timeout_s: float = _PATIENCE_S) -> int:
        """Reap it; return its exit code, or the signal's number negated."""
        if self._status is None:
            pidfd = os.pidfd_open(self.pid)
            try:
                assert select.select([pidfd], [], [], timeout_s)[0], f"{self.spec.slot} ({self.pid}) does not end"
            finally:
                os.close(pidfd)
            self._status = os.waitid(os.P_PID, self.pid, os.WEXITED)
        assert self._status is not None
        return self._status.si_status if self._status.si_code == os.CLD_EXITED else -self._status.si_status

    def hang_up(self) -> None:
        """Do what the kernel does when a master dies."""
        self.link.close()

    def far_ends_sent(self) -> None:
        self.far_link.close()
        self._far_tap.close()

    def end(self) -> None:
        self.link.close()
        self.tap.close()
        self.memory.close()
        os.close(self.memory_fd)
        os.close(self.blackbox_fd)
        if self.pid and self._status is None:
            try:
                self.kill()
                self.wait()
            except (ProcessLookupError, ChildProcessError):
                pass


class ForkMaster:
    """One fork server of one generation."""

    def __init__(
        self,
        settings: DaemonSettings,
        folder: Path,
        *,
        exec_child: bool = False,
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.settings = settings
        self.children: list[StubChild] = []
        self.stderr_path = folder / f"stderr-{uuid.uuid4().hex[:8]}.log"
        self.stdout_path = self.stderr_path.with_suffix(".out")
        self.sock, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(60.0)
        command = [sys.executable, "-P", "-m", "soniqd.forkserver", "--fd", str(far.fileno())]
        with self.stderr_path.open("wb") as stderr, self.stdout_path.open("wb") as stdout:
            self.process = subprocess.Popen(
                command + (["--exec-child"] if exec_child else []),
                pass_fds=[far.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=folder,
                env={**os.environ, **environ},
            )
        far.close()

    def send(self, packet: bytes, descriptors: tuple[int, ...] = ()) -> None:
        socket.send_fds(self.sock, [packet], descriptors)

    def receive(self) -> wire.Message | None:
        """Return the next packet; None at the end."""
        packet = self.sock.recv(wire.MAX_PACKET)
        return wire.decode(packet) if packet else None

    def boot(self, *, generation: int = 1) -> wire.Booted | wire.BootFailed:
        self.send(wire.encode(wire.Boot(generation, dump_settings(self.settings), __version__)))
        answer = self.receive()
        assert isinstance(answer, wire.Booted | wire.BootFailed), self.stderr[-2000:]
        return answer

    def booted(self) -> wire.Booted:
        answer = self.boot()
        assert isinstance(answer, wire.Booted), answer
        return answer

    def fork(self, role: Any = "worker", index: int = 1, **fields: Any) -> StubChild:
        """Ask for a child and wait for the answer."""
        group = "scheduler" if role == "scheduler" else "default"
        child = StubChild(ChildSpec(role, group, index, generation=1, worker_id=str(uuid.uuid4()), **fields))
        self.request(child)
        answer = self.receive()
        assert isinstance(answer, wire.Forked), answer
        child.pid = answer.pid
        self.children.append(child)
        return child

    def request(self, child: StubChild) -> None:
        self.send(wire.encode(wire.Fork(1, child.spec)), child.far_ends)
        child.far_ends_sent()

    @property
    def stderr(self) -> str:
        return self.stderr_path.read_text(errors="replace")

    @property
    def stdout(self) -> str:
        return self.stdout_path.read_text(errors="replace")

    def end(self) -> None:
        """End everything that was started."""
        for child in self.children:
            child.end()
        self.sock.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
