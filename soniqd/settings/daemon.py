"""The daemon's settings: the tables of soniq.toml, frozen once loaded.

Every field has a description; ``soniqctl config schema`` prints them, and a test holds the annotated etc/soniq.toml
against them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from soniqd.settings.durations import Duration
from soniqd.settings.fields import Written, setting
from soniqd.settings.process import Cpus, Limit, Umask
from soniqd.settings.sizes import Size


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class SoniqdTable:
    """``[soniqd]``: the master."""

    socket: Path = setting(Path("/run/soniq/soniqd.sock"), "control socket that soniqctl talks to")
    socket_group: str | None = setting(None, "group that may use the control socket; the process's own if unset")
    drain_timeout: Duration = setting(30.0, "how long running jobs may finish before they are given back")
    probation: Duration = setting(
        5.0, "how long the first new worker of each group has to last before a reload replaces the others"
    )
    failure_jump: float = setting(
        0.25, "a reload is taken back when new workers fail this share of runs more; 1 is never", ge=0, le=1
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], Written(_upper)] = setting(
        "INFO", "least level that is logged"
    )
    log_format: Literal["auto", "text", "json", "journald"] = setting(
        "auto", '"auto" is journald under systemd, text elsewhere'
    )


@dataclass(frozen=True, slots=True)
class DatabaseTable:
    """``[database]``: where jobs live."""

    url: str = setting("sqlite:///soniq.db", '"postgresql://..." or "sqlite:///path"; ${VAR} is replaced', shown=False)
    url_file: Path | None = setting(
        None, "file that holds the url, for secrets; relative to $CREDENTIALS_DIRECTORY if that is set"
    )
    pool_min_size: int = setting(1, "connections that a child keeps open", ge=0, le=100)
    pool_max_size: int = setting(20, "connections that a child may open at most", ge=1, le=200)
    pool_headroom: int = setting(2, "connections needed beside one for each concurrent job", ge=0, le=50)
    max_connections: int | None = setting(
        None, "most connections that all processes of this host open together; unset: as many as fit", ge=1
    )
    connect_timeout: Duration = setting(5.0, "how long one attempt to connect may take")
    statement_timeout: Duration = setting(30.0, "deadline of each statement of soniqd's own; 0 is none")


@dataclass(frozen=True, slots=True)
class JobsTable:
    """``[jobs]``: the application's code and how its jobs run unless they say otherwise."""

    modules: tuple[str, ...] = setting((), 'modules to import; "package.module:name" names the Soniq instance')
    path: tuple[Path, ...] = setting((), "folders put first on sys.path")
    python: Path | None = setting(None, "interpreter that runs the jobs; the daemon's own if unset")
    import_timeout: Duration = setting(
        300.0, "how long the modules may take to be imported before that counts as failed", gt=0, le=300
    )
    timeout: Duration = setting(300.0, "how long one run may take unless the job says; 0 is no limit")
    result_ttl: Duration = setting(300.0, "how long finished jobs are kept; 0 keeps none")
    max_retries: int = setting(3, "retries of a job that does not say", ge=0)
    max_crashes: int = setting(3, "workers that a job may bring down before it is a dead letter", ge=1)
    sync_handler_pool_size: int = setting(8, "threads a worker has for handlers without async", ge=1, le=256)
    poll_interval: Duration = setting(
        5.0, "how often a group, its workers taking turns, looks for jobs that nobody announced"
    )


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """``[[workers]]``: a group of equal worker processes."""

    name: str = setting("default", "name of the group", pattern=r"^[a-z][a-z0-9_-]*$")
    processes: int = setting(1, "worker processes", ge=0, le=1000)
    concurrency: int = setting(4, "jobs that each process runs at once", ge=1, le=1000)
    queues: tuple[str, ...] = setting((), "queues to claim from; empty is all")
    drain_timeout: Duration | None = setting(None, "overrides [soniqd] drain_timeout for this group")
    hang_timeout: Duration = setting(
        60.0, "a worker whose event loop stands still for this long is ended and replaced; 0 is never"
    )
    block_warning: Duration = setting(
        1.0, "a handler that blocks its worker's event loop for this long is reported; 0 is never"
    )
    stop_signal_timeout: Duration = setting(
        5.0, "what a worker gets beyond its drain timeout to cancel and give back its jobs before it is killed", ge=1
    )
    max_jobs: int = setting(0, "a worker is replaced after about this many runs; 0 is never", ge=0)
    max_age: Duration = setting(0.0, "a worker is replaced after about this time; 0 is never")
    max_memory: Size = setting(
        0, "a worker is replaced when memory of its own, unshared, gets to about this size; 0 is never"
    )
    env: dict[str, str] = setting({}, "environment variables that the jobs see")
    nice: int | None = setting(None, "scheduling priority, 19 is the lowest; soniqd's if unset", ge=-20, le=19)
    cpu_affinity: Cpus = setting((), 'CPUs to run on, "0-3,6" or an array; empty is all that soniqd has')
    rlimits: dict[str, Limit] = setting(
        {}, 'resource limits, named as in setrlimit(2): {nofile = 4096, as = "2GB", core = "unlimited"}'
    )
    user: str | None = setting(None, "user that runs the jobs, if soniqd is root; soniqd's own if unset")
    group: str | None = setting(None, "group that runs the jobs, if soniqd is root; the user's if unset")
    umask: Umask | None = setting(None, 'octal mask for new files, such as "0027"; soniqd\'s if unset')


@dataclass(frozen=True, slots=True)
class SchedulerTable:
    """``[scheduler]``: recurring jobs."""

    enabled: bool = setting(True, "run a scheduler process; only one of all hosts leads")


@dataclass(frozen=True, slots=True)
class SweepTable:
    """``[sweep]``: finding workers of lost hosts."""

    heartbeat_interval: Duration = setting(5.0, "how often this host tells that its workers live", gt=0)
    heartbeat_timeout: Duration = setting(300.0, "silence after which a worker counts as lost", gt=0)
    interval: Duration = setting(60.0, "how often this host looks for lost workers and old rows", gt=0)


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """A whole soniq.toml."""

    soniqd: SoniqdTable = SoniqdTable()
    database: DatabaseTable = DatabaseTable()
    jobs: JobsTable = JobsTable()
    workers: tuple[WorkerGroup, ...] = (WorkerGroup(),)
    scheduler: SchedulerTable = SchedulerTable()
    sweep: SweepTable = SweepTable()
    include: tuple[str, ...] = setting((), "further files to read, as glob patterns; a later file wins")
