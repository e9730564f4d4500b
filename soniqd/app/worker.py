"""From an application to a worker in this process."""

from __future__ import annotations

import logging
import platform
import threading
import uuid
from collections.abc import Callable, Sequence

from soniqd.app.core import AppCore
from soniqd.backends import StorageBackend
from soniqd.backends.factory import create_backend
from soniqd.control.identity import current_identity
from soniqd.errors import ConfigurationError
from soniqd.log import catalogue, emit
from soniqd.model import WorkerId, WorkerRecord
from soniqd.policy.pool import pool_problem
from soniqd.queue import values
from soniqd.settings.library import SoniqSettings
from soniqd.version import __version__
from soniqd.worker import StandaloneOptions, Worker, WorkerOptions


def make_worker(
    app: AppCore,
    backend: StorageBackend,
    *,
    concurrency: int | None,
    queues: Sequence[str] | None,
    until_empty: bool,
) -> Worker:
    """Make the worker of ``run_worker``; warns of a pool that is too small for it."""
    settings = app.settings
    try:
        slots = settings.concurrency if concurrency is None else values.count("concurrency", concurrency, least=1)
        served = tuple(values.queue_name(queue) for queue in ([queues] if isinstance(queues, str) else queues or ()))
    except ValueError as error:
        raise ConfigurationError(f"cannot run a worker: {error}") from error
    _set_log_level(settings)
    _warn_of_pool(settings, backend, concurrency=slots)
    return Worker(
        backend=backend,
        tasks=app.tasks,
        hooks=app.hooks,
        record=WorkerRecord(
            id=WorkerId(str(uuid.uuid4())),
            process=current_identity(),
            queues=served,
            concurrency=slots,
            version=__version__,
            metadata={"python": platform.python_version()},
        ),
        options=_options(settings, concurrency=slots, queues=served),
        metrics_sink=app.metrics_sink,
        retry_policy=app.retry_policy,
        until_empty=until_empty,
    )


def surroundings(app: AppCore, backend: StorageBackend) -> StandaloneOptions:
    """Say how a worker without a master keeps itself alive."""
    settings = app.settings
    return StandaloneOptions(
        heartbeat_interval_s=settings.heartbeat_interval,
        heartbeat_timeout_s=settings.heartbeat_timeout,
        sweep_interval_s=settings.cleanup_interval,
        drain_timeout_s=settings.shutdown_timeout,
        connect=_heartbeat_backend(settings) if app.owns_backend and backend.capabilities.multi_process else None,
    )


def may_handle_signals() -> bool:
    """Whether this is the thread in which Python runs signal handlers."""
    return threading.current_thread() is threading.main_thread()


def _options(settings: SoniqSettings, *, concurrency: int, queues: tuple[str, ...]) -> WorkerOptions:
    return WorkerOptions(
        concurrency=concurrency,
        queues=queues,
        job_timeout_s=settings.job_timeout or 0.0,
        result_ttl_s=settings.result_ttl,
        poll_interval_s=settings.poll_interval,
        sync_threads=settings.sync_handler_pool_size,
        max_crashes=settings.max_crashes,
        snooze_max_s=settings.snooze_max_seconds,
        error_retry_s=settings.error_retry_delay,
    )


def _set_log_level(settings: SoniqSettings) -> None:
    """Only if somebody asked for one: where lines go, and which, is the embedding application's affair."""
    if settings.debug or "log_level" in settings.given:
        logging.getLogger("soniqd").setLevel("DEBUG" if settings.debug else settings.log_level)


def _warn_of_pool(settings: SoniqSettings, backend: StorageBackend, *, concurrency: int) -> None:
    """A database server's connections are pooled; an embedded one's are not what settings bound."""
    if not backend.capabilities.multi_host:
        return
    problem = pool_problem(
        concurrency=concurrency, pool_max_size=settings.pool_max_size, pool_headroom=settings.pool_headroom
    )
    if problem is not None:
        emit(catalogue.POOL_TOO_SMALL, problem=problem)


def _heartbeat_backend(settings: SoniqSettings) -> Callable[[], StorageBackend]:
    """The heartbeat has a thread of its own, and there one connection of its own."""
    return lambda: create_backend(settings.database_url, pool_min_size=1, pool_max_size=1)
