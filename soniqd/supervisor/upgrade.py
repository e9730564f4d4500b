"""Executing the soniqd that is on disk now in place of this one: same pid, same children, same socket.

    quiet?      no reload under way, no fork server booting, no fork outstanding, no other command being answered
    self-check  the new image, in a process of its own, judges the state that would be handed over
    let go      the duties towards the database end, and its connections
    block       signals stay pending from here on; those that came before are acted on, and it has to be quiet still
    judge       the same process judges the final state; nothing happens in between any more
    execve(2)   with the state in sealed memory, its descriptors inheritable

Whatever fails before the last step leaves everything as it was: this image goes on and says why. The settings in force
go on as well; a changed file is for the next reload. The one window without a master lasts as long as the new image
takes to import itself: children work on, what they say waits in their sockets, who of them ends waits to be reaped,
who connects waits to be accepted, signals wait to be delivered.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from soniqd.control.reexec import HANDOVER_VARIABLE, sealed_memory
from soniqd.control.server import ControlServer
from soniqd.control.shortage import shortage
from soniqd.errors import ControlError, SoniqError
from soniqd.log import catalogue, emit
from soniqd.supervisor.handover import Handover, describe, descriptors, encode, outstanding
from soniqd.supervisor.master import Master
from soniqd.supervisor.selfcheck import SelfCheck, Verdict
from soniqd.supervisor.signals import HANDLED
from soniqd.version import __version__

COMMAND = "upgrade"
QUIET_TIMEOUT_S = 10.0
"""How long forks and other commands may take to end; a reload, which may take much longer, is not waited for."""
_LOOK_AGAIN_S = 0.02
_LAST_RELEASES_S = 1.0
_LET_GO_TIMEOUT_S = 3.0
_TURNS = 8
"""Turns of the loop after which a signal that came before has had all of its effects: wake-up, handler, its task."""


@dataclass(frozen=True, slots=True)
class UpgradeResult:
    """How an upgrade ended; ``version`` runs now, ``error`` None means that it went well."""

    version: str
    from_version: str
    duration_s: float
    error: str | None


class Upgrade:
    """Attempts, one at a time; who asks during one shares its end."""

    def __init__(self, master: Master, *, server: Callable[[], ControlServer]) -> None:
        self._master = master
        self._server = server
        self._attempt: asyncio.Task[None] | None = None
        self.last: UpgradeResult | None = None

    async def attempt(self, reason: str) -> None:
        """Raise ControlError with the reason if it fails. If it does not, the next image answers instead."""
        if self._attempt is None:
            self._attempt = asyncio.create_task(self._try(reason), name="upgrade")
            self._attempt.add_done_callback(self._attempted)
        await asyncio.shield(self._attempt)

    def on_signal(self, name: str) -> None:
        """Attempt it; the log tells how it ended."""
        task = asyncio.ensure_future(self.attempt(name))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _attempted(self, attempt: asyncio.Task[None]) -> None:
        self._attempt = None
        if not attempt.cancelled():
            attempt.exception()

    async def _try(self, reason: str) -> None:
        began_s = time.monotonic()
        emit(catalogue.UPGRADE_STARTED, reason=reason)
        try:
            await self._quiet(began_s + QUIET_TIMEOUT_S)
            with SelfCheck(self._master.reaper) as check:
                verdict = await check.judge(encode(self._describe(began_s)))
                _insist(verdict)
                await self._leave(check, verdict.version, began_s)
        except ControlError as error:
            self._failed(str(error), began_s)
            raise
        except Exception as error:
            if (lack := shortage(error)) is not None:
                self._failed(f"cannot upgrade: {lack}", began_s)
                raise ControlError(f"cannot upgrade: {lack}") from error
            self._failed(f"cannot upgrade: {error!r}", began_s, defect=error)
            raise

    def _failed(self, error: str, began_s: float, *, defect: Exception | None = None) -> None:
        emit(catalogue.UPGRADE_FAILED, version=__version__, error=error, exc_info=defect or False)
        self.last = UpgradeResult(__version__, __version__, round(time.monotonic() - began_s, 3), error)

    async def _leave(self, check: SelfCheck, successor: str, began_s: float) -> NoReturn:
        master = self._master
        master.upgrading = True
        master.service.look()
        try:
            await self._let_go_of_the_database()
            await self._block_signals_in_a_quiet_moment()
            emit(catalogue.UPGRADE_LEAVES, version=__version__, successor=successor)
            self._execute(check, began_s)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
            if master.supervision.phase != "leaving":
                self._take_up_the_database()
            master.upgrading = False
            master.service.look()

    # is it a good moment?

    async def _quiet(self, deadline_s: float) -> None:
        while reason := self._outstanding():
            if time.monotonic() >= deadline_s:
                raise ControlError(f"cannot upgrade: {reason}")
            await asyncio.sleep(_LOOK_AGAIN_S)

    def _outstanding(self) -> str | None:
        """Name what has to end first; raises ControlError for what is not worth waiting for."""
        supervision = self._master.supervision
        if supervision.phase != "running":
            raise ControlError(f"cannot upgrade: the daemon is {supervision.phase}")
        if supervision.reloading or self._master.reloads.beginning:
            raise ControlError("cannot upgrade: a reload is under way: wait for its end, then try again")
        others = sorted(self._server().being_answered() - {COMMAND})
        if others:
            return f"soniqctl {others[0]} is being answered"
        return outstanding(self._master)

    async def _block_signals_in_a_quiet_moment(self) -> None:
        deadline_s = time.monotonic() + QUIET_TIMEOUT_S
        while True:
            await self._quiet(deadline_s)
            signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            if self._outstanding() is None:
                return
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)

    async def _let_go_of_the_database(self) -> None:
        """No statement is cut off in its middle, if the database answers in time."""
        master = self._master
        duties = (lambda: master.ledger.finish(_LAST_RELEASES_S), master.waker.close, master.budget.close)
        await end_in_time((*duties, master.backend.close), _LET_GO_TIMEOUT_S)

    def _take_up_the_database(self) -> None:
        self._master.ledger.start()
        self._master.waker.start()
        self._master.budget.start()

    # the last step: nothing here gives the loop a turn

    def _execute(self, check: SelfCheck, began_s: float) -> NoReturn:
        handover = self._describe(began_s)
        state = encode(handover)
        _insist(check.judge_now(state))
        memory = sealed_memory(state)
        kept = [memory, *descriptors(handover)]
        try:
            for fd in kept:
                os.set_inheritable(fd, True)
            os.execve(sys.executable, sys.orig_argv, os.environ | {HANDOVER_VARIABLE: str(memory)})  # noqa: S606
        except OSError as error:
            raise ControlError(f"cannot upgrade: cannot run {sys.executable}: {error.strerror}") from error
        finally:
            for fd in kept:
                os.set_inheritable(fd, False)
            os.close(memory)

    def _describe(self, began_s: float) -> Handover:
        control = self._server().hand_over(answered_later=COMMAND)
        return describe(self._master, control=control, began_s=began_s, now_s=time.monotonic())


async def end_in_time(endings: Sequence[Callable[[], Awaitable[None]]], timeout_s: float) -> None:
    """Take each of these steps, all of them together in so much time: those that come too late are begun and cut off.

    What was told to end does end, so that whoever goes on after all does not have two of it.
    """
    end_s = asyncio.get_running_loop().time() + timeout_s
    for end in endings:
        with suppress(TimeoutError, SoniqError):
            async with asyncio.timeout_at(end_s):
                await end()


def _insist(verdict: Verdict) -> None:
    if verdict.problems:
        name = f"soniqd {verdict.version}" if verdict.version else "the soniqd on disk"
        raise ControlError(f"cannot upgrade: {name} cannot take over: {'; '.join(verdict.problems)}")
