"""``soniqctl worker`` and ``scheduler``: one process without a daemon around it."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import uvloop

from soniqd.backends import StorageBackend
from soniqd.cli.options import COMMA_SEPARATED, json_option
from soniqd.cli.render import print_json, print_line
from soniqd.cli.session import Session
from soniqd.cli.wording import count
from soniqd.control.identity import current_identity
from soniqd.forkserver.loading import load_jobs
from soniqd.log.setup import configure_logging
from soniqd.model import WorkerId, WorkerRecord
from soniqd.roles import LoadedJobs
from soniqd.roles.scheduler import make_scheduler
from soniqd.roles.storage import make_backend
from soniqd.settings.daemon import DaemonSettings, WorkerGroup
from soniqd.settings.library import load_library_settings
from soniqd.version import __version__
from soniqd.worker import StandaloneOptions, Worker, WorkerOptions, run_standalone

_ALREADY_THERE = "SONIQD_INTERPRETER"
"""Set for the interpreter of ``[jobs] python``, so that one that calls itself otherwise is not started for ever."""


@click.command()
@click.option("--concurrency", type=click.IntRange(1, 1000), help="Jobs to run at once; default: the first group's.")
@click.option("--queues", type=COMMA_SEPARATED, default=(), help="Queues to claim from; default: all.")
@click.option("--run-once", is_flag=True, help="Run what can run now, then leave.")
@click.option("--jobs-modules", type=COMMA_SEPARATED, help="Modules to import, instead of the configured ones.")
@json_option
@click.pass_obj
def worker(
    session: Session,
    *,
    concurrency: int | None,
    queues: tuple[str, ...],
    run_once: bool,
    jobs_modules: tuple[str, ...] | None,
) -> None:
    """Run a worker here, without a daemon: it heartbeats, listens and sweeps by itself.

    SIGTERM and Ctrl-C drain it; a second one ends it at once. Modules are also looked for in the working directory.
    """
    settings = _settings(session, concurrency=concurrency, jobs_modules=jobs_modules)
    done, failed = _run(_work(settings, queues=queues, run_once=run_once))
    if session.as_json:
        print_json({"done": done, "failed": failed})
    else:
        print_line(f"{count(done, 'job')} done, {count(failed, 'run')} failed")


@click.command()
@click.option("--jobs-modules", type=COMMA_SEPARATED, help="Modules to import, instead of the configured ones.")
@click.pass_obj
def scheduler(session: Session, *, jobs_modules: tuple[str, ...] | None) -> None:
    """Run a scheduler here, without a daemon. Of all that run anywhere, one leads."""
    _run(_schedule(_settings(session, concurrency=None, jobs_modules=jobs_modules)))


def _settings(session: Session, *, concurrency: int | None, jobs_modules: tuple[str, ...] | None) -> DaemonSettings:
    overrides: dict[str, Any] = {}
    if concurrency is not None:
        overrides["workers.*.concurrency"] = concurrency
    if jobs_modules is not None:
        overrides["jobs.modules"] = list(jobs_modules)
    settings = session.unsupervised(overrides)
    _become(settings.jobs.python)
    level = "DEBUG" if load_library_settings().debug else settings.soniqd.log_level
    configure_logging(level, settings.soniqd.log_format)
    path = (*settings.jobs.path, Path.cwd())
    return replace(settings, jobs=replace(settings.jobs, path=path))


def _become(python: Path | None) -> None:
    """Go on in the interpreter that has the application, if that is another one."""
    if python is None or python == Path(sys.executable) or os.environ.get(_ALREADY_THERE) == str(python):
        return
    arguments = [str(python), "-m", "soniqd.cli.soniqctl", *sys.argv[1:]]
    os.execve(python, arguments, {**os.environ, _ALREADY_THERE: str(python)})  # noqa: S606  no shell is wanted


def _run(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def _work(settings: DaemonSettings, *, queues: tuple[str, ...], run_once: bool) -> tuple[int, int]:
    """Run a worker to its end; return how many jobs were done, and failed."""
    jobs = load_jobs(settings)
    async with _open_backend(settings) as backend:
        worker = _make_worker(settings, jobs, backend, queues=queues, run_once=run_once)
        await run_standalone(worker, backend, options=_surroundings(settings), handle_signals=True)
        state = worker.state()
    return state.done, state.failed


async def _schedule(settings: DaemonSettings) -> None:
    jobs = load_jobs(settings)
    async with _open_backend(settings) as backend:
        scheduler = make_scheduler(jobs, backend)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, scheduler.drain, settings.soniqd.drain_timeout)
        await scheduler.run()


@asynccontextmanager
async def _open_backend(settings: DaemonSettings) -> AsyncIterator[StorageBackend]:
    backend = make_backend(settings.database)
    try:
        await backend.open()
        await backend.check_schema()
        yield backend
    finally:
        await backend.close()


def _make_worker(
    settings: DaemonSettings, jobs: LoadedJobs, backend: StorageBackend, *, queues: tuple[str, ...], run_once: bool
) -> Worker:
    concurrency = (settings.workers or (WorkerGroup(),))[0].concurrency
    library = load_library_settings()  # for what is a setting of workers without a daemon only
    return Worker(
        backend=backend,
        tasks=jobs.tasks,
        hooks=jobs.hooks,
        record=WorkerRecord(
            id=WorkerId(str(uuid.uuid4())),
            process=current_identity(),
            queues=queues,
            concurrency=concurrency,
            version=__version__,
            metadata={"python": platform.python_version()},
        ),
        options=WorkerOptions(
            concurrency=concurrency,
            queues=queues,
            job_timeout_s=settings.jobs.timeout,
            result_ttl_s=settings.jobs.result_ttl,
            poll_interval_s=settings.jobs.poll_interval,
            sync_threads=settings.jobs.sync_handler_pool_size,
            max_crashes=settings.jobs.max_crashes,
            snooze_max_s=library.snooze_max_seconds,
            error_retry_s=library.error_retry_delay,
        ),
        metrics_sink=jobs.metrics_sink,
        retry_policy=jobs.retry_policy,
        until_empty=run_once,
    )


def _surroundings(settings: DaemonSettings) -> StandaloneOptions:
    one_connection = replace(settings.database, pool_min_size=1, pool_max_size=1)
    return StandaloneOptions(
        heartbeat_interval_s=settings.sweep.heartbeat_interval,
        heartbeat_timeout_s=settings.sweep.heartbeat_timeout,
        sweep_interval_s=settings.sweep.interval,
        drain_timeout_s=settings.soniqd.drain_timeout,
        connect=lambda: make_backend(one_connection),
    )
