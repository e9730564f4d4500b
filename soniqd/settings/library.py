"""Settings of a ``Soniq`` instance and of an unsupervised worker: keyword arguments, ``SONIQ_*``, ``.env``, defaults.

Checking them with pydantic would cost each process 10 MiB, with pydantic-settings as much again and 60 ms.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from soniqd.errors import ConfigurationError
from soniqd.settings.durations import Duration, parse_duration_s
from soniqd.settings.env import Environment, comma_separated
from soniqd.settings.fields import Written, setting, settings_of
from soniqd.settings.problems import nearest, quoted
from soniqd.settings.reading import Mistake, MistakesError, read_settings

DEFAULT_DATABASE_URL = "postgresql://postgres@localhost/soniq"

_ALIASES = {"concurrency": ("SONIQ_CONCURRENCY", "SONIQ_WORKER_CONCURRENCY")}


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _split(value: object) -> object:
    return comma_separated(value) if isinstance(value, str) else value


def _timeout_or_none(value: object) -> float | None:
    seconds = None if value is None else parse_duration_s(value)
    return seconds or None


def _compiling(pattern: object) -> object:
    if isinstance(pattern, str):
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"expected a regular expression, got {quoted(pattern)}: {error}") from error
    return pattern


@dataclass(frozen=True, slots=True)
class SoniqSettings:
    """All settings of the library; seconds where a duration is meant. ``given`` names those that somebody has set."""

    database_url: str = setting(
        DEFAULT_DATABASE_URL,
        '"postgresql://...", "sqlite:///path", a path that ends in .db, or "memory://"',
        min_length=1,
        shown=False,
    )
    jobs_modules: Annotated[tuple[str, ...], Written(_split)] = setting((), "modules that `soniqctl worker` imports")
    concurrency: int = setting(4, "jobs that a worker runs at once", ge=1, le=1000)
    queues: Annotated[list[str], Written(_split)] = setting(
        ["default"], "for your own code to read; workers serve all queues"
    )
    max_retries: int = setting(3, "retries of a job that does not say", ge=0)
    max_crashes: int = setting(3, "workers that a job may bring down before it is a dead letter", ge=1)
    priority: int = setting(100, "priority of a job that does not say; lower first", ge=-(2**31), lt=2**31)
    job_timeout: Annotated[float | None, Written(_timeout_or_none)] = setting(
        300.0, "how long one run may take unless the job says; 0 or None is no limit"
    )
    result_ttl: Duration = setting(300, "how long finished jobs are kept; 0 keeps none")
    sync_handler_pool_size: int = setting(8, "threads for handlers without async", ge=1, le=256)
    shutdown_timeout: Duration = setting(30.0, "how long running jobs may finish before they are given back")
    snooze_max_seconds: Duration = setting(86400.0, "longest snooze that a handler may ask for", gt=0)
    enqueue_validation: Literal["strict", "warn", "none"] = setting(
        "strict", "what enqueue does about a name that is not registered here: raise, log, or nothing"
    )
    task_name_pattern: Annotated[str, Written(_compiling)] = setting(
        r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$", "regular expression that task names must match"
    )
    producer_id: str = setting("auto", 'stamped on enqueued jobs; "auto" is host:pid:program', min_length=1)
    poll_interval: Duration = setting(5.0, "how often a worker looks for jobs that nobody announced", gt=0)
    heartbeat_interval: Duration = setting(5.0, "how often a worker tells that it lives", gt=0)
    heartbeat_timeout: Duration = setting(300.0, "silence after which a worker counts as lost", gt=0)
    cleanup_interval: Duration = setting(300.0, "how often a worker looks for lost workers and old rows", gt=0)
    error_retry_delay: Duration = setting(5.0, "longest pause before the next try while the database is away", gt=0)
    pool_min_size: int = setting(5, "connections that are kept open", ge=0, le=100)
    pool_max_size: int = setting(20, "connections that may be opened at most", ge=1, le=200)
    pool_headroom: int = setting(2, "connections needed beside one for each concurrent job", ge=0, le=50)
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], Written(_upper)] = setting(
        "INFO", "least level that `run_worker` and `soniqctl worker` log"
    )
    debug: bool = setting(False, "log at DEBUG, and allow reset() outside of tests")
    environment: str = setting("production", '"testing" allows reset(), which deletes all jobs')
    given: frozenset[str] = field(default=frozenset(), init=False, repr=False, compare=False)


def load_library_settings(
    environ: Mapping[str, str] | None = None, dotenv: Path | None = None, /, **settings: Any
) -> SoniqSettings:
    """Find every setting: ``settings`` win over the environment, that over ``.env``, that over the defaults.

    ``database_url=None`` counts as not given. Raises ConfigurationError with every problem.
    """
    environment = Environment.read(os.environ if environ is None else environ, dotenv or Path(".env"))
    given = {name: value for name, value in settings.items() if not (name == "database_url" and value is None)}
    found, origins = _from_environment(environment, without=given.keys())
    try:
        loaded = read_settings(SoniqSettings, found | given, strict=False)
    except MistakesError as error:
        problems = (*environment.problems, *(_problem(mistake, origins) for mistake in error.mistakes))
        raise _refused(problems) from None
    if environment.problems:
        raise _refused(environment.problems)
    object.__setattr__(loaded, "given", frozenset(found | given))
    return loaded


def _from_environment(environment: Environment, *, without: Any) -> tuple[dict[str, Any], dict[str, str]]:
    found: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name in settings_of(SoniqSettings):
        variable = environment.first(*_ALIASES.get(name, (f"SONIQ_{name.upper()}",)))
        if variable is None or name in without:
            continue
        found[name] = variable.value
        origins[name] = variable.origin
    return found, origins


def _problem(mistake: Mistake, origins: Mapping[str, str]) -> str:
    name = str(mistake.loc[0])
    if mistake.is_unknown:
        near = nearest(name, settings_of(SoniqSettings))
        return f"{name}: unknown setting" + (f'; did you mean "{near}"?' if near else "")
    return f"{origins.get(name, name)}: {mistake.text}"


def _refused(problems: tuple[str, ...]) -> ConfigurationError:
    return ConfigurationError("cannot use these settings: " + "; ".join(problems), problems=problems)
