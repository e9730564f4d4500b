"""The worker role: the daemon's settings become a supervised worker."""

from __future__ import annotations

import platform
from typing import Any

from soniqd.backends import StorageBackend
from soniqd.control.identity import current_identity
from soniqd.errors import PoolTooSmallError
from soniqd.model import ProcessIdentity, WorkerId, WorkerRecord
from soniqd.model.child import ChildSpec
from soniqd.policy.pool import pool_problem
from soniqd.roles.graces import Graces
from soniqd.roles.jobs import LoadedJobs
from soniqd.settings.daemon import DaemonSettings
from soniqd.version import __version__
from soniqd.worker import Worker, WorkerOptions
from soniqd.worker.board import Board

_POLL_TURNS = 2
"""Workers of a group poll in turns; more turns would leave too long a gap when those of one turn are busy or gone."""


def make_worker(
    spec: ChildSpec,
    settings: DaemonSettings,
    jobs: LoadedJobs,
    backend: StorageBackend,
    board: Board,
    *,
    master: ProcessIdentity | None,
) -> Worker:
    """Make the worker of this process, whose backend serves its handlers, too; raises PoolTooSmallError.

    It registers with its ``master`` (None: gone already), so that others on this host leave it to that one.
    """
    _check_pool(spec, settings, backend)
    for app in jobs.apps:
        app.use_backend(backend)
    return Worker(
        backend=backend,
        tasks=jobs.tasks,
        hooks=jobs.hooks,
        record=_record(spec, master),
        options=_options(spec, settings),
        metrics_sink=jobs.metrics_sink,
        retry_policy=jobs.retry_policy,
        board=board,
    )


def _check_pool(spec: ChildSpec, settings: DaemonSettings, backend: StorageBackend) -> None:
    """A database server's connections are pooled; an embedded one's are not what settings bound."""
    if not backend.capabilities.multi_host:
        return
    problem = pool_problem(
        concurrency=spec.concurrency,
        pool_max_size=settings.database.pool_max_size,
        pool_headroom=settings.database.pool_headroom,
    )
    if problem is not None:
        raise PoolTooSmallError(f"{problem}: raise [database] pool_max_size or lower the group's concurrency")


def _record(spec: ChildSpec, master: ProcessIdentity | None) -> WorkerRecord:
    metadata: dict[str, Any] = {"generation": spec.generation, "python": platform.python_version()}
    if master is not None:
        metadata["master"] = {"pid": master.pid, "start_ticks": master.start_ticks}
    return WorkerRecord(
        id=WorkerId(spec.worker_id),
        process=current_identity(),
        queues=spec.queues,
        concurrency=spec.concurrency,
        version=__version__,
        supervised=True,
        slot=spec.slot,
        metadata=metadata,
    )


def _options(spec: ChildSpec, settings: DaemonSettings) -> WorkerOptions:
    jobs, graces = settings.jobs, Graces.within(spec.stop_signal_timeout_s)
    configured = max((group.processes for group in settings.workers if group.name == spec.group), default=1)
    turns = max(1, min(configured, _POLL_TURNS))
    return WorkerOptions(
        concurrency=spec.concurrency,
        queues=spec.queues,
        job_timeout_s=jobs.timeout,
        result_ttl_s=jobs.result_ttl,
        poll_interval_s=jobs.poll_interval,
        poll_turn=1 + spec.index % turns,
        poll_turns=turns,
        sync_threads=jobs.sync_handler_pool_size,
        max_crashes=jobs.max_crashes,
        cancel_grace_s=graces.cancel_s,
        write_grace_s=graces.write_s,
    )
