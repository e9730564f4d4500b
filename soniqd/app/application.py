"""The class that applications use."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cached_property

from soniqd.app.declaring import Declaring
from soniqd.app.inspecting import Inspecting
from soniqd.features.dead_letter import DeadLetters
from soniqd.features.schedules import Schedules


class Soniq(Declaring, Inspecting):
    """An application's tasks and jobs.

    ``Soniq(database_url=None, backend=None, *, retry_policy=None, metrics_sink=None, **settings)``: a database URL or
    the path of an SQLite file; a backend ("postgres", "sqlite", "memory", or an instance); and any field of
    :class:`~soniqd.settings.library.SoniqSettings`. Without either, the database is ``SONIQ_DATABASE_URL``, and in
    the daemon's processes always the daemon's.
    """

    @cached_property
    def dead_letter(self) -> DeadLetters:
        """Jobs that failed for good."""
        return DeadLetters(self._lifecycle.open)

    @cached_property
    def scheduler(self) -> Schedules:
        """Recurring jobs in the database, to be added, looked at and paused at run time."""
        return Schedules(self._lifecycle.open, self._recipe)

    async def run_worker(
        self,
        concurrency: int | None = None,
        run_once: bool = False,  # noqa: FBT001, FBT002  Soniq's signature, kept
        queues: Sequence[str] | None = None,
        shutdown_event: asyncio.Event | None = None,
    ) -> None:
        """Run jobs in this process: for tests and small programs; production has the daemon.

        ``concurrency`` is the setting's if not given, ``queues`` are all. ``run_once`` ends when nothing is left to
        run now. ``shutdown_event`` drains when it is set; without one, SIGTERM and SIGINT do (in the main thread),
        and a second of them drains at once. Recurring jobs need a scheduler as well: ``soniqctl scheduler``.
        """
        from soniqd.app import worker as assembly  # noqa: PLC0415  those who only enqueue need no worker code
        from soniqd.worker import run_standalone  # noqa: PLC0415

        backend = await self._lifecycle.open()
        worker = assembly.make_worker(self, backend, concurrency=concurrency, queues=queues, until_empty=run_once)
        if run_once and not self.tasks:
            return
        await run_standalone(
            worker,
            backend,
            options=assembly.surroundings(self, backend),
            stop=shutdown_event,
            handle_signals=shutdown_event is None and assembly.may_handle_signals(),
        )
