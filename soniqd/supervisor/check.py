"""Trying a configuration's jobs modules without running anything: one fork server boots and is ended."""

from __future__ import annotations

import asyncio

from soniqd.control import fork as wire
from soniqd.model.child import ExitCause
from soniqd.settings import dump_settings
from soniqd.settings.daemon import DaemonSettings
from soniqd.supervisor.child import ChildProcess
from soniqd.supervisor.generation import Generation
from soniqd.supervisor.reaper import Reaper


class _Verdict:
    """Hears one generation's boot."""

    def __init__(self, problems: asyncio.Future[list[str]]) -> None:
        self._problems = problems

    def generation_booted(self, generation: int, booted: wire.Booted) -> None:
        del generation, booted
        self._decide([])

    def generation_boot_failed(self, generation: int, failed: wire.BootFailed | None, cause: str) -> None:
        del generation
        self._decide(list(failed.problems) if failed else [cause])

    def generation_lost(self, generation: int, cause: ExitCause) -> None:
        del generation
        self._decide([f"the fork server ended with {cause}"])

    def child_forked(self, child: ChildProcess, pid: int) -> None:
        """No child is ever asked for."""

    def fork_failed(self, child: ChildProcess, reason: str) -> None:
        """No child is ever asked for."""

    def _decide(self, problems: list[str]) -> None:
        if not self._problems.done():
            self._problems.set_result(problems)


async def check_modules(settings: DaemonSettings) -> list[str]:
    """Return the problems of the jobs modules; an empty list means that a daemon would start."""
    loop = asyncio.get_running_loop()
    reaper = Reaper(loop)
    verdict: asyncio.Future[list[str]] = loop.create_future()
    python = settings.jobs.python
    generation = Generation(
        1,
        python=None if python is None else str(python),
        settings=dump_settings(settings),
        loop=loop,
        reaper=reaper,
        events=_Verdict(verdict),
    )
    generation.boot()
    try:
        return await verdict
    finally:
        generation.retire()
        await generation.gone()
        reaper.close()
