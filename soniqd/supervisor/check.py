"""Trying a configuration's jobs modules without running anything: one fork server boots and is ended."""

from __future__ import annotations

import asyncio

from soniqd.settings.daemon import DaemonSettings
from soniqd.supervisor.reaper import Reaper
from soniqd.supervisor.trial import boot_on_trial


async def check_modules(settings: DaemonSettings) -> list[str]:
    """Return the problems of the jobs modules; an empty list means that a daemon would start."""
    reaper = Reaper(asyncio.get_running_loop())
    try:
        trial = await boot_on_trial(settings, number=1, reaper=reaper)
    finally:
        reaper.close()
    return list(trial.problems)
