"""The daemon's settings: the tables of soniq.toml, frozen once loaded.

Every field has a description; ``soniqctl config schema`` prints them, and a test holds the annotated etc/soniq.toml
against them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from soniqd.settings.durations import Duration
from soniqd.settings.process import Cpus, Limit, Umask
from soniqd.settings.sizes import Size


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SoniqdTable(_Table):
    """``[soniqd]``: the master."""

    socket: Path = Field(Path("/run/soniq/soniqd.sock"), description="control socket that soniqctl talks to")
    socket_group: str | None = Field(
        None, description="group that may use the control socket; the process's own if unset"
    )
    drain_timeout: Duration = Field(30.0, description="how long running jobs may finish before they are given back")
    probation: Duration = Field(
        5.0, description="how long the first new worker of each group has to last before a reload replaces the others"
    )
    failure_jump: float = Field(
        0.25, ge=0, le=1, description="a reload is taken back when new workers fail this share of runs more; 1 is never"
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)] = Field(
        "INFO", description="least level that is logged"
    )
    log_format: Literal["auto", "text", "json", "journald"] = Field(
        "auto", description='"auto" is journald under systemd, text elsewhere'
    )


class DatabaseTable(_Table):
    """``[database]``: where jobs live."""

    url: str = Field(
        "sqlite:///soniq.db", repr=False, description='"postgresql://..." or "sqlite:///path"; ${VAR} is replaced'
    )
    url_file: Path | None = Field(
        None, description="file that holds the url, for secrets; relative to $CREDENTIALS_DIRECTORY if that is set"
    )
    pool_min_size: int = Field(1, ge=0, le=100, description="connections that a child keeps open")
    pool_max_size: int = Field(20, ge=1, le=200, description="connections that a child may open at most")
    pool_headroom: int = Field(2, ge=0, le=50, description="connections needed beside one for each concurrent job")
    max_connections: int | None = Field(
        None, ge=1, description="most connections that all processes of this host open together; unset: as many as fit"
    )
    connect_timeout: Duration = Field(5.0, description="how long one attempt to connect may take")
    statement_timeout: Duration = Field(30.0, description="deadline of each statement of soniqd's own; 0 is none")


class JobsTable(_Table):
    """``[jobs]``: the application's code and how its jobs run unless they say otherwise."""

    modules: tuple[str, ...] = Field(
        (), description='modules to import; "package.module:name" names the Soniq instance'
    )
    path: tuple[Path, ...] = Field((), description="folders put first on sys.path")
    python: Path | None = Field(None, description="interpreter that runs the jobs; the daemon's own if unset")
    import_timeout: Duration = Field(
        300.0, gt=0, le=300, description="how long the modules may take to be imported before that counts as failed"
    )
    timeout: Duration = Field(300.0, description="how long one run may take unless the job says; 0 is no limit")
    result_ttl: Duration = Field(300.0, description="how long finished jobs are kept; 0 keeps none")
    max_retries: int = Field(3, ge=0, description="retries of a job that does not say")
    max_crashes: int = Field(3, ge=1, description="workers that a job may bring down before it is a dead letter")
    sync_handler_pool_size: int = Field(8, ge=1, le=256, description="threads a worker has for handlers without async")
    poll_interval: Duration = Field(5.0, description="how often a worker looks for jobs that nobody announced")


class WorkerGroup(_Table):
    """``[[workers]]``: a group of equal worker processes."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")] = Field("default", description="name of the group")
    processes: int = Field(1, ge=0, le=1000, description="worker processes")
    concurrency: int = Field(4, ge=1, le=1000, description="jobs that each process runs at once")
    queues: tuple[str, ...] = Field((), description="queues to claim from; empty is all")
    drain_timeout: Duration | None = Field(None, description="overrides [soniqd] drain_timeout for this group")
    hang_timeout: Duration = Field(
        60.0, description="a worker whose event loop stands still for this long is ended and replaced; 0 is never"
    )
    block_warning: Duration = Field(
        1.0, description="a handler that blocks its worker's event loop for this long is reported; 0 is never"
    )
    stop_signal_timeout: Duration = Field(
        5.0,
        ge=1,
        description="what a worker gets beyond its drain timeout to cancel and give back its jobs before it is killed",
    )
    max_jobs: int = Field(0, ge=0, description="a worker is replaced after about this many runs; 0 is never")
    max_age: Duration = Field(0.0, description="a worker is replaced after about this time; 0 is never")
    max_memory: Size = Field(
        0, description="a worker is replaced when memory of its own, unshared, gets to about this size; 0 is never"
    )
    env: dict[str, str] = Field({}, description="environment variables that the jobs see")
    nice: int | None = Field(
        None, ge=-20, le=19, description="scheduling priority, 19 is the lowest; soniqd's if unset"
    )
    cpu_affinity: Cpus = Field((), description='CPUs to run on, "0-3,6" or an array; empty is all that soniqd has')
    rlimits: dict[str, Limit] = Field(
        {}, description='resource limits, named as in setrlimit(2): {nofile = 4096, as = "2GB", core = "unlimited"}'
    )
    user: str | None = Field(None, description="user that runs the jobs, if soniqd is root; soniqd's own if unset")
    group: str | None = Field(None, description="group that runs the jobs, if soniqd is root; the user's if unset")
    umask: Umask | None = Field(None, description='octal mask for new files, such as "0027"; soniqd\'s if unset')


class SchedulerTable(_Table):
    """``[scheduler]``: recurring jobs."""

    enabled: bool = Field(True, description="run a scheduler process; only one of all hosts leads")


class SweepTable(_Table):
    """``[sweep]``: finding workers of lost hosts."""

    heartbeat_interval: Duration = Field(5.0, gt=0, description="how often this host tells that its workers live")
    heartbeat_timeout: Duration = Field(300.0, gt=0, description="silence after which a worker counts as lost")
    interval: Duration = Field(60.0, gt=0, description="how often this host looks for lost workers and old rows")


class DaemonSettings(_Table):
    """A whole soniq.toml."""

    soniqd: SoniqdTable = SoniqdTable()
    database: DatabaseTable = DatabaseTable()
    jobs: JobsTable = JobsTable()
    workers: tuple[WorkerGroup, ...] = (WorkerGroup(),)
    scheduler: SchedulerTable = SchedulerTable()
    sweep: SweepTable = SweepTable()
    include: tuple[str, ...] = Field((), description="further files to read, as glob patterns; a later file wins")
