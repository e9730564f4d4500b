"""Recurring jobs in the database, steered at run time. This is ``app.scheduler``.

What ``@app.periodic`` declares is stored by the scheduler process when it starts; what ``add`` stores here stays until
``remove``. Both are fired by whichever scheduler leads, which looks at the database, so that a pause holds everywhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from soniqd.backends import StorageBackend
from soniqd.errors import ConfigurationError
from soniqd.model import ScheduleRecord
from soniqd.model.schedule import MissedPolicy
from soniqd.policy.cron import first_run
from soniqd.queue import new_jobs
from soniqd.queue.new_jobs import Options, Recipe, Target
from soniqd.queue.periodic import DeclaredSchedule
from soniqd.queue.values import Seconds

OpenBackend = Callable[[], Awaitable[StorageBackend]]
MakeRecipe = Callable[[Target, Options], Recipe]
Records = list[ScheduleRecord]


class Schedules:
    """The schedules of one application's database."""

    def __init__(self, backend: OpenBackend, recipe: MakeRecipe) -> None:
        self._open = backend
        self._recipe = recipe

    async def add(
        self,
        target: Target | None = None,
        *,
        name: str | None = None,
        cron: str | None = None,
        every: Seconds | None = None,
        args: Mapping[str, Any] | None = None,
        queue: str | None = None,
        priority: int | None = None,
        timezone: str = "UTC",
        missed: MissedPolicy = "all",
    ) -> str:
        """Store a schedule, or change the one of its name, and return its name.

        ``target`` is what ``enqueue`` takes; without one, ``name`` is the task's as well. The first tick is the first
        one from now on (an interval's: one interval from now); a change that leaves the times as they were does not
        shift them, and a paused schedule stays paused.
        """
        if target is None and name is None:
            raise ConfigurationError("cannot add a schedule: it has neither a target nor a name")
        schedule = DeclaredSchedule.checked(name, cron=cron, every=every, args=args, timezone=timezone, missed=missed)
        recipe = self._recipe(
            target if target is not None else name or "", new_jobs.options(queue=queue, priority=priority)
        )
        recipe.check(schedule.args)
        spec = schedule.spec(recipe)
        backend = await self._open()
        await backend.put_schedules([spec], {spec.name: first_run(spec, await backend.now())})
        return spec.name

    async def list(self) -> Records:
        """Return all schedules, sorted by name."""
        return await (await self._open()).list_schedules()

    async def get(self, name: str) -> ScheduleRecord | None:
        """Return one schedule, or None."""
        return next((record for record in await self.list() if record.spec.name == name), None)

    async def pause(self, name: str) -> bool:
        """Fire no more ticks until ``resume``; return whether there is such a schedule."""
        return await (await self._open()).set_schedule_paused(name, paused=True)

    async def resume(self, name: str) -> bool:
        """Fire again; return whether there is such a schedule."""
        return await (await self._open()).set_schedule_paused(name, paused=False)

    async def remove(self, name: str) -> bool:
        """Delete a schedule; return whether there was one. One that ``@app.periodic`` declares comes back."""
        return await (await self._open()).remove_schedule(name)
