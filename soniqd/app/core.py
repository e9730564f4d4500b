"""What all parts of an application stand on: its settings, its tasks and its backend."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from soniqd.app.database import check_url, same_database, url_for
from soniqd.backends import MigrationStatus, StorageBackend
from soniqd.backends.factory import create_backend
from soniqd.errors import ConfigurationError
from soniqd.log.redact import redact
from soniqd.queue.hooks import Hooks
from soniqd.queue.lifecycle import BackendLifecycle, told_of
from soniqd.queue.metrics import MetricsSink, NullMetricsSink
from soniqd.queue.new_jobs import JobMaker, Options, Recipe, Target
from soniqd.queue.periodic import DeclaredSchedule
from soniqd.queue.registry import TaskRegistry
from soniqd.queue.retry_policy import RetryPolicy, TaskRetryPolicy
from soniqd.settings.library import SoniqSettings, load_library_settings


class AppCore:
    """Settings, registries and lifecycle."""

    def __init__(
        self,
        database_url: str | None = None,
        backend: StorageBackend | str | None = None,
        *,
        retry_policy: RetryPolicy | None = None,
        metrics_sink: MetricsSink | None = None,
        **settings: Any,
    ) -> None:
        given = backend if not isinstance(backend, str) else None
        if given is not None and database_url is not None:
            raise ConfigurationError(
                f"cannot use both database_url {redact(database_url)!r} and a backend that is made already"
            )
        if isinstance(backend, str):
            database_url = url_for(backend, database_url)
        self._said = settings if database_url is None else {**settings, "database_url": database_url}
        self._given_backend = given
        self._open_to_binding = backend is None and database_url is None
        self.settings: SoniqSettings = load_library_settings(**self._said)
        if given is None:
            check_url(self.settings.database_url, backend)
        self.tasks = TaskRegistry()
        self.hooks = Hooks()
        self.retry_policy: RetryPolicy = retry_policy or TaskRetryPolicy()
        self.metrics_sink: MetricsSink = metrics_sink or NullMetricsSink()
        self._maker = JobMaker.create(self.tasks, self.settings)
        self._schedules: dict[str, tuple[str, DeclaredSchedule]] = {}
        self._lifecycle = BackendLifecycle(
            make=None if given else self._make_backend, given=given, origin=self._database_origin
        )

    @property
    def backend(self) -> StorageBackend:
        """The backend; it is open after ``ensure_initialized`` or the first use."""
        return self._lifecycle.backend

    @property
    def is_initialized(self) -> bool:
        return self._lifecycle.opened

    @property
    def is_closed(self) -> bool:
        return self._lifecycle.closed

    @property
    def owns_backend(self) -> bool:
        """Whether the backend was made from the settings, so that another one like it can be."""
        return self._given_backend is None

    async def ensure_initialized(self) -> None:
        """Open the backend if it is not open yet; raises ClosedError after ``close``."""
        await self._lifecycle.open()

    async def close(self) -> None:
        """Give back what is open, for good. A second call does nothing."""
        await self._lifecycle.close()

    async def __aenter__(self) -> Self:
        await self.ensure_initialized()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def setup(self) -> MigrationStatus:
        """Create the database if it is missing and bring its tables up to date; ``pending`` are those applied now.

        For a deployment's own step, as ``soniqctl setup`` is, and for tests.
        """
        with told_of(self._database_origin):
            return await self._lifecycle.backend.setup()

    async def reset(self) -> None:
        """Delete all jobs, workers and schedules; only with ``environment="testing"`` or ``debug``."""
        if self.settings.environment != "testing" and not self.settings.debug:
            raise ConfigurationError(
                f"cannot reset {self.backend.location}: environment is {self.settings.environment!r}, "
                'and only "testing" (or debug) allows to delete all jobs'
            )
        await (await self._lifecycle.open()).reset()

    def use_backend(self, backend: StorageBackend) -> None:
        """Work on a backend that somebody else has opened in this process and event loop, and will close.

        For a worker, which lends its own to the handlers' application, so that they need no connections beside it.
        """
        self._lifecycle.borrow(backend)

    def bind(self, database_url: str, **settings: Any) -> None:
        """Give an application that was made without a database the daemon's.

        ``settings`` are the daemon's; what the constructor was told wins over them. Raises ConfigurationError if it
        was made with another database, or is open already.
        """
        if self.is_initialized or self.is_closed:
            raise ConfigurationError(
                f"cannot bind this Soniq to {redact(database_url)}: it was opened already, "
                "and a jobs module must not use the database while it is imported"
            )
        if not self._open_to_binding and not self._is_at(database_url):
            raise ConfigurationError(
                f"cannot bind this Soniq to {redact(database_url)}: it was made with {self._own_place()}; "
                "make it without a database, or with the same"
            )
        self.settings = load_library_settings(**{**settings, **self._said, "database_url": database_url})
        self._maker = JobMaker.create(self.tasks, self.settings)
        for task in self.tasks:
            self.tasks.replace(replace(task, **{name: getattr(self.settings, name) for name in sorted(task.defaulted)}))

    def _recipe(self, target: Target, options: Options) -> Recipe:
        """Ask the job maker of the moment: binding replaces it."""
        return self._maker.recipe(target, options)

    def _is_at(self, database_url: str) -> bool:
        return self._given_backend is None and same_database(self.settings.database_url, database_url)

    def _own_place(self) -> str:
        backend = self._given_backend
        return redact(self.settings.database_url) if backend is None else f"the backend {backend.location}"

    def _database_origin(self) -> str:
        """Tell where the database comes from if nobody has named it."""
        if self._given_backend is not None or "database_url" in self.settings.given:
            return ""
        return "no database is configured: this is the default; set SONIQ_DATABASE_URL"

    def _make_backend(self) -> StorageBackend:
        settings = self.settings
        return create_backend(
            settings.database_url, pool_min_size=settings.pool_min_size, pool_max_size=settings.pool_max_size
        )
