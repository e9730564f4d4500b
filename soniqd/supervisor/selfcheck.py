"""Would the soniqd that is on disk now be able to go on where this one stands? It is asked, in a process of its own.

The process is started exactly as the daemon itself will be: same interpreter, same arguments. It gets states to judge,
each in sealed memory, and answers each with its version and what is in the way. The first one takes as long as
importing everything takes; the process then stays, so that the very state that is handed over in the end can be judged
within milliseconds, with the daemon's loop standing still.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from soniqd.control.reexec import SELF_CHECK_VARIABLE, read_memory, sealed_memory
from soniqd.errors import ControlError
from soniqd.log.redact import redact
from soniqd.model.child import ExitCause
from soniqd.supervisor.interpreter import environment
from soniqd.supervisor.reaper import Reaper

FIRST_ANSWER_TIMEOUT_S = 60.0
"""For starting an interpreter and importing all of soniqd on a busy host."""
LAST_ANSWER_TIMEOUT_S = 3.0
_MAX_ANSWER = 128 * 1024
_END_TIMEOUT_S = 1.0
_LAST_LINES = 2

Judge = Callable[[bytes], list[str]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """``problems`` are for people; none means that it can go on. ``version`` is the new one's, "" if unknown."""

    version: str
    problems: tuple[str, ...] = ()


class SelfCheck:
    """The asking side. One process; to be closed whatever it said."""

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper
        self._loop = asyncio.get_running_loop()
        self._pidfd = -1
        self._errors = os.memfd_create("soniqd-self-check", os.MFD_CLOEXEC)
        self._socket, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(LAST_ANSWER_TIMEOUT_S)
        self._exited: asyncio.Future[ExitCause] = self._loop.create_future()
        try:
            self._start(far)
        except OSError as error:
            self.close()
            raise ControlError(f"cannot run {sys.executable}: {error.strerror}") from error
        finally:
            far.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def judge(self, state: bytes, *, timeout_s: float = FIRST_ANSWER_TIMEOUT_S) -> Verdict:
        """Ask whether the new image could go on with this state, and wait for its answer. Raises nothing."""
        try:
            self._ask(state)
            async with asyncio.timeout(timeout_s):
                await self._answered_or_gone()
        except TimeoutError:
            return Verdict("", (f"it has not answered within {timeout_s:g} s",))
        except ConnectionError:
            return await self._last_words()
        except OSError as error:
            return Verdict("", (f"cannot ask it: {error.strerror}",))
        return self._read() or await self._last_words()

    def judge_now(self, state: bytes) -> Verdict:
        """Ask for the last time: nothing else happens until the answer is there. Raises nothing."""
        try:
            self._ask(state)
        except OSError as error:
            return Verdict("", (f"cannot ask it: {error.strerror}",))
        return self._read() or Verdict("", ("it has ended",))

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._errors >= 0:
            os.close(self._errors)
            self._errors = -1

    def _start(self, far: socket.socket) -> None:
        process = subprocess.Popen(  # noqa: S603  this very daemon
            [sys.executable, *sys.orig_argv[1:]],
            pass_fds=[far.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            env=environment() | {SELF_CHECK_VARIABLE: str(far.fileno())},
        )
        process.returncode = 0  # the reaper waits for it, Popen must not
        self._pidfd = os.pidfd_open(process.pid)
        self._reaper.watch(process.pid, self._note_exit)

    def _note_exit(self, cause: ExitCause) -> None:
        if not self._exited.done():
            self._exited.set_result(cause)

    def _ask(self, state: bytes) -> None:
        memory = sealed_memory(state)
        try:
            socket.send_fds(self._socket, [b"?"], [memory])
        finally:
            os.close(memory)

    async def _answered_or_gone(self) -> None:
        answered = asyncio.Event()
        self._loop.add_reader(self._socket, answered.set)
        try:
            await answered.wait()
        finally:
            self._loop.remove_reader(self._socket)

    def _read(self) -> Verdict | None:
        """Take an answer; None if there will never be one."""
        try:
            packet = self._socket.recv(_MAX_ANSWER)
            return _understood(packet) if packet else None
        except ConnectionError:  # it has ended with the question unread
            return None
        except TimeoutError:
            return Verdict("", (f"it has not answered within {LAST_ANSWER_TIMEOUT_S:g} s",))

    async def _last_words(self) -> Verdict:
        cause = "no answer"
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_TIMEOUT_S):
                cause = str(await self._exited)
        output = read_memory(self._errors).decode(errors="replace")
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        return Verdict("", (redact(": ".join([f"it ended with {cause}", *lines[-_LAST_LINES:]])),))


def _understood(packet: bytes) -> Verdict:
    try:
        answer = json.loads(packet)
        return Verdict(str(answer["version"]), tuple(map(str, answer["problems"])))
    except (ValueError, KeyError, TypeError) as error:
        return Verdict("", (f"cannot understand its answer: {error!r}",))


def answer_questions(judge: Judge, *, version: str) -> int:
    """Be the asked side until the asking one has heard enough; returns the exit code."""
    with socket.socket(fileno=int(os.environ.pop(SELF_CHECK_VARIABLE))) as asker:
        asker.set_inheritable(False)
        while True:
            packet, descriptors, _, _ = socket.recv_fds(asker, 1, 1)
            if not packet or not descriptors:
                return os.EX_OK
            try:
                problems = judge(read_memory(descriptors[0]))
            finally:
                os.close(descriptors[0])
            asker.send(_fitting(version, problems))


def _fitting(version: str, problems: list[str]) -> bytes:
    """Encode an answer, cut to what a packet takes."""
    cut = [redact(problem)[:1000] for problem in problems[:20]]
    return json.dumps({"version": version, "problems": cut}).encode()
