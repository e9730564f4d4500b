"""From a call of enqueue to the job to store: find the task, check the arguments, settle the options."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import PurePath
from typing import Any, Literal

from soniqd.errors import InvalidArgumentsError, UnknownTaskError
from soniqd.log import catalogue, emit
from soniqd.model import JobId, NewJob
from soniqd.queue import payload, values
from soniqd.queue.arguments import validate_with_model
from soniqd.queue.declare import default_task_name
from soniqd.queue.ids import new_job_id
from soniqd.queue.registry import Task, TaskRegistry
from soniqd.queue.task_ref import TaskRef

Target = str | TaskRef | Callable[..., Any]
"""What can be enqueued: a declared function, a task's name, or a reference to it."""

RunTime = datetime | timedelta | int | float
"""An aware datetime, or the time from now as a timedelta or a number of seconds."""

Validation = Literal["strict", "warn", "none"]

_MOST_WARNED = 1000  # names are the caller's: made-up ones must not pile up


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller says about a job, checked; None leaves it to the task."""

    queue: str | None = None
    priority: int | None = None
    run_at: datetime | None = None
    delay_s: float | None = None
    unique: bool | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything about a job but its arguments and its keys."""

    name: str
    task: Task | None
    args_model: type[Any] | None
    queue: str
    priority: int
    max_attempts: int
    unique: bool
    run_at: datetime | None
    delay_s: float | None
    producer_id: str

    def check(self, args: dict[str, Any]) -> None:
        """Raise InvalidArgumentsError unless the task can be called with these, as far as is known here."""
        if self.args_model is not None:
            validate_with_model(self.args_model, self.name, args)
        elif self.task is not None:
            self.task.check_arguments(args)

    def make(self, args: dict[str, Any], dedup_key: str | None = None) -> NewJob:
        """Return the job for these arguments; raises InvalidArgumentsError."""
        return self.put_together(new_job_id(), *self.encode(args), dedup_key)

    def encode(self, args: dict[str, Any]) -> tuple[str, str | None]:
        """Return arguments as they are stored, and their hash if it is needed; raises InvalidArgumentsError."""
        self.check(args)
        return payload.encode_args(args), payload.args_hash(args) if self.unique else None

    def put_together(self, job_id: JobId, args_json: str, args_hash: str | None, dedup_key: str | None) -> NewJob:
        """Return the job of what was encoded before."""
        return NewJob(
            job_id,
            self.name,
            args_json,
            self.queue,
            self.priority,
            self.max_attempts,
            self.unique,
            args_hash,
            dedup_key,
            self.run_at,
            self.delay_s,
            self.producer_id,
        )


@dataclass(slots=True)
class JobMaker:
    """Makes recipes for one application."""

    tasks: TaskRegistry
    validation: Validation
    task_name_pattern: str
    priority: int
    max_retries: int
    producer_id: str
    _warned: set[str]
    _plain: dict[str, Recipe] = field(default_factory=dict)
    """By name: those of tasks of which nothing was said at the call."""

    @classmethod
    def create(cls, tasks: TaskRegistry, settings: Any) -> JobMaker:
        """Take what is needed from a SoniqSettings."""
        return cls(
            tasks=tasks,
            validation=settings.enqueue_validation,
            task_name_pattern=settings.task_name_pattern,
            priority=settings.priority,
            max_retries=settings.max_retries,
            producer_id=settings.producer_id,
            _warned=set(),
        )

    def recipe(self, target: Target, options: Options) -> Recipe:
        """Find the task; raises UnknownTaskError, InvalidTaskNameError or InvalidArgumentsError."""
        reference = target if isinstance(target, TaskRef) else None
        name, task = self._find(target)
        if reference is None and task is not None and options is _NOTHING_SAID:
            return self._plain_recipe(task)
        return self._settled(name, task, reference, options)

    def _plain_recipe(self, task: Task) -> Recipe:
        known = self._plain.get(task.name)
        if known is None or known.task is not task or known.producer_id != self._producer():
            known = self._plain[task.name] = self._settled(task.name, task, None, _NOTHING_SAID)
        return known

    def _settled(self, name: str, task: Task | None, reference: TaskRef | None, options: Options) -> Recipe:
        queue, priority, unique = options.queue, options.priority, options.unique
        if queue is None and reference is not None:
            queue = reference.default_queue
        if task is not None:
            return Recipe(
                name,
                task,
                reference.args_model if reference is not None else None,
                task.queue if queue is None else queue,
                task.priority if priority is None else priority,
                task.max_retries + 1,
                task.unique if unique is None else unique,
                options.run_at,
                options.delay_s,
                self._producer(),
            )
        return Recipe(
            name,
            None,
            reference.args_model if reference is not None else None,
            "default" if queue is None else queue,
            self.priority if priority is None else priority,
            self.max_retries + 1,
            bool(unique),
            options.run_at,
            options.delay_s,
            self._producer(),
        )

    def _find(self, target: Target) -> tuple[str, Task | None]:
        if isinstance(target, str):
            task = self.tasks.get(target)
            if task is None:
                self._admit(target)
            return target, task
        if isinstance(target, TaskRef):
            return target.name, self.tasks.get(target.name)
        if not callable(target):
            raise InvalidArgumentsError(
                f"cannot enqueue {target!r}: expected a function declared with @app.job, a task name or a TaskRef"
            )
        task = self.tasks.of_callable(target)
        if task is not None:
            return task.name, task
        return self._foreign(target), None

    def _foreign(self, target: Callable[..., Any]) -> str:
        """Name a callable that this application has not declared; perhaps another one in this process has."""
        name = getattr(target, "task_name", None)
        if not isinstance(name, str):
            name = default_task_name(target)
        self._admit(name, checked=True)
        return name

    def _admit(self, name: str, *, checked: bool = False) -> None:
        if not checked:
            values.task_name(name, self.task_name_pattern)
        if self.validation == "strict":
            near = get_close_matches(name, self.tasks.names(), n=1)
            raise UnknownTaskError(
                f"cannot enqueue {name!r}: no task of this name is declared here"
                + (f", did you mean {near[0]!r}?" if near else "")
                + ' (for a task of another service use a TaskRef, or the setting enqueue_validation="none")',
                task_name=name,
            )
        if self.validation == "warn" and name not in self._warned:
            if len(self._warned) < _MOST_WARNED:
                self._warned.add(name)
            emit(catalogue.UNREGISTERED_TASK, job_name=name)

    def _producer(self) -> str:
        return automatic_producer_id() if self.producer_id == "auto" else self.producer_id


def options(
    *,
    queue: str | None = None,
    priority: int | None = None,
    scheduled_at: RunTime | None = None,
    unique: bool | None = None,
) -> Options:
    """Check what a caller says; raises InvalidArgumentsError."""
    if queue is None and priority is None and scheduled_at is None and unique is None:
        return _NOTHING_SAID
    try:
        run_at, delay_s = values.run_time(scheduled_at)
        return Options(
            queue=None if queue is None else values.queue_name(queue),
            priority=None if priority is None else values.priority(priority),
            run_at=run_at,
            delay_s=delay_s,
            unique=None if unique is None else values.boolean("unique", unique),
        )
    except ValueError as error:
        raise InvalidArgumentsError(f"cannot enqueue: {error}") from error


_NOTHING_SAID = Options()


def dedup_key(value: str | None) -> str | None:
    """Check a dedup key; raises InvalidArgumentsError."""
    if value is None:
        return None
    try:
        return values.dedup_key(value)
    except ValueError as error:
        raise InvalidArgumentsError(f"cannot enqueue: {error}") from error


def arguments(args: Any, keywords: dict[str, Any]) -> dict[str, Any]:
    """Join the two ways to pass job arguments; ``args`` is a dict or a pydantic model."""
    if args is None:
        return keywords
    if keywords:
        raise InvalidArgumentsError(
            f"cannot enqueue: arguments come both in args= and as keywords ({', '.join(keywords)}); use one of the two"
        )
    return argument_dict(args)


def argument_dict(args: Any) -> dict[str, Any]:
    """Return the arguments that a dict or a pydantic model holds; raises InvalidArgumentsError."""
    if hasattr(args, "model_dump"):
        args = args.model_dump(mode="json")
    if not isinstance(args, dict):
        raise InvalidArgumentsError(f"cannot enqueue: arguments must be a dict or a pydantic model, not {args!r}")
    return args


_automatic: tuple[int, str] = (0, "")


def automatic_producer_id() -> str:
    """Name this process as ``host:pid:program``."""
    global _automatic  # noqa: PLW0603  a cache that a fork invalidates by its pid
    pid = os.getpid()
    if _automatic[0] != pid:
        program = PurePath(sys.argv[0]).name if sys.argv else ""
        _automatic = (pid, f"{socket.gethostname()}:{pid}:{program or 'python'}")
    return _automatic[1]
