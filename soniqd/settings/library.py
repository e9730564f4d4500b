"""Settings of a ``Soniq`` instance and of an unsupervised worker: keyword arguments, ``SONIQ_*``, ``.env``, defaults.

Pydantic checks the values; finding them is :mod:`soniqd.settings.env`, not pydantic-settings, which costs each
process 60 ms and 10 MiB more than pydantic alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from soniqd.errors import ConfigurationError
from soniqd.settings.durations import Duration, parse_duration_s
from soniqd.settings.env import Environment, comma_separated
from soniqd.settings.problems import expectation, nearest, quoted

DEFAULT_DATABASE_URL = "postgresql://postgres@localhost/soniq"

_ALIASES = {"concurrency": ("SONIQ_CONCURRENCY", "SONIQ_WORKER_CONCURRENCY")}


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _split(value: object) -> object:
    return comma_separated(value) if isinstance(value, str) else value


def _timeout_or_none(value: object) -> float | None:
    seconds = None if value is None else parse_duration_s(value)
    return seconds or None


class SoniqSettings(BaseModel):
    """All settings of the library; seconds where a duration is meant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_url: str = Field(
        DEFAULT_DATABASE_URL,
        min_length=1,
        repr=False,
        description='"postgresql://...", "sqlite:///path", a path that ends in .db, or "memory://"',
    )
    jobs_modules: Annotated[tuple[str, ...], BeforeValidator(_split)] = Field(
        (), description="modules that `soniqctl worker` imports"
    )
    concurrency: int = Field(4, ge=1, le=1000, description="jobs that a worker runs at once")
    queues: Annotated[list[str], BeforeValidator(_split)] = Field(
        ["default"], description="for your own code to read; workers serve all queues"
    )
    max_retries: int = Field(3, ge=0, description="retries of a job that does not say")
    max_crashes: int = Field(3, ge=1, description="workers that a job may bring down before it is a dead letter")
    priority: int = Field(100, ge=-(2**31), lt=2**31, description="priority of a job that does not say; lower first")
    job_timeout: Annotated[float | None, BeforeValidator(_timeout_or_none)] = Field(
        300.0, description="how long one run may take unless the job says; 0 or None is no limit"
    )
    result_ttl: Duration = Field(300, description="how long finished jobs are kept; 0 keeps none")
    sync_handler_pool_size: int = Field(8, ge=1, le=256, description="threads for handlers without async")
    shutdown_timeout: Duration = Field(30.0, description="how long running jobs may finish before they are given back")
    snooze_max_seconds: Duration = Field(86400.0, gt=0, description="longest snooze that a handler may ask for")
    enqueue_validation: Literal["strict", "warn", "none"] = Field(
        "strict", description="what enqueue does about a name that is not registered here: raise, log, or nothing"
    )
    task_name_pattern: str = Field(
        r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$", description="regular expression that task names must match"
    )
    producer_id: str = Field("auto", min_length=1, description='stamped on enqueued jobs; "auto" is host:pid:program')
    poll_interval: Duration = Field(5.0, gt=0, description="how often a worker looks for jobs that nobody announced")
    heartbeat_interval: Duration = Field(5.0, gt=0, description="how often a worker tells that it lives")
    heartbeat_timeout: Duration = Field(300.0, gt=0, description="silence after which a worker counts as lost")
    cleanup_interval: Duration = Field(
        300.0, gt=0, description="how often a worker looks for lost workers and old rows"
    )
    error_retry_delay: Duration = Field(
        5.0, gt=0, description="longest pause before the next try while the database is away"
    )
    pool_min_size: int = Field(5, ge=0, le=100, description="connections that are kept open")
    pool_max_size: int = Field(20, ge=1, le=200, description="connections that may be opened at most")
    pool_headroom: int = Field(2, ge=0, le=50, description="connections needed beside one for each concurrent job")
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)] = Field(
        "INFO", description="least level that `run_worker` and `soniqctl worker` log"
    )
    debug: bool = Field(False, description="log at DEBUG, and allow reset() outside of tests")
    environment: str = Field("production", description='"testing" allows reset(), which deletes all jobs')

    @field_validator("task_name_pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"expected a regular expression, got {quoted(pattern)}: {error}") from error
        return pattern


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
        loaded = SoniqSettings.model_validate(found | given)
    except ValidationError as error:
        problems = (*environment.problems, *(_problem(e, origins) for e in error.errors()))
        raise _refused(problems) from None
    if environment.problems:
        raise _refused(environment.problems)
    return loaded


def _from_environment(environment: Environment, *, without: Any) -> tuple[dict[str, Any], dict[str, str]]:
    found: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name in SoniqSettings.model_fields:
        variable = environment.first(*_ALIASES.get(name, (f"SONIQ_{name.upper()}",)))
        if variable is None or name in without:
            continue
        found[name] = variable.value
        origins[name] = variable.origin
    return found, origins


def _problem(error: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        near = nearest(name, SoniqSettings.model_fields)
        return f"{name}: unknown setting" + (f'; did you mean "{near}"?' if near else "")
    return f"{origins.get(name, name)}: {expectation(error)}"


def _refused(problems: tuple[str, ...]) -> ConfigurationError:
    return ConfigurationError("cannot use these settings: " + "; ".join(problems), problems=problems)
