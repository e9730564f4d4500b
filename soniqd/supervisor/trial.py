"""A generation that is booted to be looked at: no child ever comes from it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from soniqd.control import fork as wire
from soniqd.model.child import ExitCause
from soniqd.settings import dump_settings
from soniqd.settings.daemon import DaemonSettings
from soniqd.supervisor.child import ChildProcess
from soniqd.supervisor.generation import Generation
from soniqd.supervisor.reaper import Reaper


@dataclass(frozen=True, slots=True)
class Trial:
    """How a boot went: what the fork server says of itself, or why there is none."""

    booted: wire.Booted | None
    problems: tuple[str, ...] = ()
    traceback: str = ""


async def boot_on_trial(settings: DaemonSettings, *, number: int, reaper: Reaper) -> Trial:
    """Boot a generation, and end it again as soon as it has said how that went."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Trial] = loop.create_future()
    python = settings.jobs.python
    generation = Generation(
        number,
        python=None if python is None else str(python),
        settings=dump_settings(settings),
        loop=loop,
        reaper=reaper,
        events=_Hearing(outcome),
    )
    generation.boot()
    try:
        return await outcome
    finally:
        generation.retire()
        await generation.gone()


class _Hearing:
    """Hears one generation's boot."""

    def __init__(self, outcome: asyncio.Future[Trial]) -> None:
        self._outcome = outcome

    def generation_booted(self, generation: int, booted: wire.Booted) -> None:
        del generation
        self._decide(Trial(booted))

    def generation_boot_failed(self, generation: int, failed: wire.BootFailed | None, cause: str) -> None:
        del generation
        problems, traceback = ((cause,), "") if failed is None else (failed.problems, failed.traceback)
        self._decide(Trial(None, problems, traceback))

    def generation_lost(self, generation: int, cause: ExitCause) -> None:
        del generation
        self._decide(Trial(None, (f"the fork server ended with {cause}",)))

    def child_forked(self, child: ChildProcess, pid: int) -> None:
        """No child is ever asked for."""

    def fork_failed(self, child: ChildProcess, reason: str) -> None:
        """No child is ever asked for."""

    def _decide(self, outcome: Trial) -> None:
        if not self._outcome.done():
            self._outcome.set_result(outcome)
