"""A task by name alone, for producers that do not import the code that runs it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from soniqd.errors import ConfigurationError
from soniqd.queue import values

DEFAULT_PATTERN = r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$"


@dataclass(frozen=True, slots=True)
class TaskRef:
    """A task that some worker knows by ``name``; ``args_model`` (a pydantic model) checks arguments here."""

    name: str
    args_model: type[Any] | None = None
    default_queue: str | None = None

    def with_default_queue(self, queue: str) -> TaskRef:
        """Return the same reference for another queue."""
        return replace(self, default_queue=queue)


def task_ref(
    name: str,
    args_model: type[Any] | None = None,
    default_queue: str | None = None,
    *,
    pattern: str | None = None,
) -> TaskRef:
    """Return a checked reference; raises InvalidTaskNameError or ConfigurationError.

    ``pattern`` is what the name has to match: the environment's ``SONIQ_TASK_NAME_PATTERN`` if it is not given.
    """
    values.task_name(name, pattern or os.environ.get("SONIQ_TASK_NAME_PATTERN") or DEFAULT_PATTERN)
    try:
        values.model(args_model)
        if default_queue is not None:
            values.queue_name(default_queue)
    except ValueError as error:
        raise ConfigurationError(f"cannot refer to {name!r}: {error}") from error
    return TaskRef(name, args_model, default_queue)
