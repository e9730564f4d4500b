"""``SONIQ_*`` variables that the daemon knows, and where each of them stands in soniq.toml.

They are those of the library that mean something to a whole daemon. ``SONIQ_QUEUES`` is not among them: it is a value
for the application's own code. A variable that sets a worker's value sets it in every group.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from soniqd.settings.document import Document, Origin
from soniqd.settings.env import Environment, comma_separated
from soniqd.settings.paths import absolute_url
from soniqd.settings.problems import Loc

VARIABLES: dict[Loc, tuple[str, ...]] = {
    ("soniqd", "drain_timeout"): ("SONIQ_SHUTDOWN_TIMEOUT",),
    ("soniqd", "log_level"): ("SONIQ_LOG_LEVEL",),
    ("database", "url"): ("SONIQ_DATABASE_URL",),
    ("database", "pool_min_size"): ("SONIQ_POOL_MIN_SIZE",),
    ("database", "pool_max_size"): ("SONIQ_POOL_MAX_SIZE",),
    ("database", "pool_headroom"): ("SONIQ_POOL_HEADROOM",),
    ("jobs", "modules"): ("SONIQ_JOBS_MODULES",),
    ("jobs", "timeout"): ("SONIQ_JOB_TIMEOUT",),
    ("jobs", "result_ttl"): ("SONIQ_RESULT_TTL",),
    ("jobs", "max_retries"): ("SONIQ_MAX_RETRIES",),
    ("jobs", "max_crashes"): ("SONIQ_MAX_CRASHES",),
    ("jobs", "sync_handler_pool_size"): ("SONIQ_SYNC_HANDLER_POOL_SIZE",),
    ("jobs", "poll_interval"): ("SONIQ_POLL_INTERVAL",),
    ("workers", "*", "concurrency"): ("SONIQ_CONCURRENCY", "SONIQ_WORKER_CONCURRENCY"),
    ("sweep", "heartbeat_interval"): ("SONIQ_HEARTBEAT_INTERVAL",),
    ("sweep", "heartbeat_timeout"): ("SONIQ_HEARTBEAT_TIMEOUT",),
    ("sweep", "interval"): ("SONIQ_CLEANUP_INTERVAL",),
}

_LISTS: frozenset[Loc] = frozenset({("jobs", "modules")})
_TEXTS: frozenset[Loc] = frozenset({("database", "url"), ("soniqd", "log_level")})


def read_variables(environment: Environment, document: Document) -> None:
    """Put the variables that are set over the document's values."""
    document.problems.extend(environment.problems)
    for loc, names in VARIABLES.items():
        if variable := environment.first(*names):
            document.set(loc, _value(loc, variable.value), Origin(variable.origin))


def _value(loc: Loc, text: str) -> Any:
    if loc in _LISTS:
        return comma_separated(text)
    if loc == ("database", "url"):
        return absolute_url(text, base=Path())
    if loc not in _TEXTS:
        with suppress(ValueError):
            return int(text)
    return text
