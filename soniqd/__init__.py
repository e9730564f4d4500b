"""Background jobs on the PostgreSQL you already have, run and kept running by a daemon.

The public names are imported when they are first used: the daemon's master imports this package too, and has no use
for what an application needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from soniqd.version import __version__

if TYPE_CHECKING:
    from soniqd import errors
    from soniqd.app import Soniq
    from soniqd.errors import SoniqError
    from soniqd.model import JobStatus
    from soniqd.policy.retry import RetryRule
    from soniqd.queue.context import JobContext, Snooze
    from soniqd.queue.metrics import MetricsSink
    from soniqd.queue.retry_policy import RetryPolicy
    from soniqd.queue.task_ref import TaskRef, task_ref

__all__ = [
    "JobContext",
    "JobStatus",
    "MetricsSink",
    "RetryPolicy",
    "RetryRule",
    "Snooze",
    "Soniq",
    "SoniqError",
    "TaskRef",
    "__version__",
    "errors",
    "task_ref",
]

_HOMES = {
    "JobContext": "soniqd.queue.context",
    "JobStatus": "soniqd.model",
    "MetricsSink": "soniqd.queue.metrics",
    "RetryPolicy": "soniqd.queue.retry_policy",
    "RetryRule": "soniqd.policy.retry",
    "Snooze": "soniqd.queue.context",
    "Soniq": "soniqd.app",
    "SoniqError": "soniqd.errors",
    "TaskRef": "soniqd.queue.task_ref",
    "task_ref": "soniqd.queue.task_ref",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("soniqd.errors")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
