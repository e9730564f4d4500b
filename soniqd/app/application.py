"""The class that applications use."""

from __future__ import annotations

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
