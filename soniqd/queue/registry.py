"""The tasks that an application has declared, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from soniqd.errors import ConfigurationError
from soniqd.policy.retry import RetryRule
from soniqd.queue.arguments import HandlerSignature, validate_with_model
from soniqd.queue.context import JobContext


@dataclass(frozen=True, slots=True)
class Task:
    """A declared handler and how its jobs run.

    ``timeout_s`` None is the worker's default, 0 is no limit. ``source`` is "file:line", for people. ``defaulted``
    names the fields that the declaration left to the application's settings.
    """

    name: str
    handler: Callable[..., Any]
    is_async: bool
    queue: str = "default"
    priority: int = 100
    max_retries: int = 3
    retry: RetryRule = field(default_factory=RetryRule)
    timeout_s: float | None = None
    unique: bool = False
    args_model: type[Any] | None = None
    signature: HandlerSignature | None = None
    source: str = ""
    defaulted: frozenset[str] = frozenset()

    @property
    def context_parameter(self) -> str | None:
        """The handler's parameter that receives the JobContext."""
        return self.signature.context if self.signature else None

    def check_arguments(self, args: dict[str, Any]) -> None:
        """Raise InvalidArgumentsError unless the handler can be called with these."""
        if self.args_model is not None:
            validate_with_model(self.args_model, self.name, args)
        elif self.signature is not None:
            self.signature.check(self.name, args)

    def call_arguments(self, args: dict[str, Any], context: JobContext) -> dict[str, Any]:
        """Return the keywords to call the handler with; raises InvalidArgumentsError where it cannot be called.

        With an ``args_model`` the handler gets the model's values (``model_dump()``), converted and defaulted.
        """
        if self.args_model is not None:
            keywords: dict[str, Any] = validate_with_model(self.args_model, self.name, args).model_dump()
        else:
            keywords = dict(args)
        if self.signature is not None:
            self.signature.check(self.name, keywords)
            if self.signature.context is not None:
                keywords[self.signature.context] = context
        return keywords


class TaskRegistry:
    """Tasks by name; one name stands for one handler."""

    def __init__(self) -> None:
        self._by_name: dict[str, Task] = {}
        self._names: dict[Callable[..., Any], str] = {}

    def add(self, task: Task, *, aliases: tuple[Callable[..., Any], ...] = ()) -> None:
        """Register; raises ConfigurationError if another function has the name.

        The same function loaded again (its module reloaded) takes its old place. ``aliases`` are callables that
        stand for the task besides its handler.
        """
        known = self._by_name.get(task.name)
        if known is not None and not _is_same(known, task):
            raise ConfigurationError(
                f"cannot declare {task.name!r} at {task.source or task.handler}: "
                f"the name is taken by {known.source or known.handler}",
                task_name=task.name,
            )
        self.replace(task)
        for alias in aliases:
            self._names.setdefault(alias, task.name)

    def replace(self, task: Task) -> None:
        """Put a task in the place of the one with its name."""
        self._by_name[task.name] = task
        self._names.setdefault(task.handler, task.name)

    def get(self, name: str) -> Task | None:
        return self._by_name.get(name)

    def of_callable(self, target: Callable[..., Any]) -> Task | None:
        """Return the task that a callable was declared as, the first one if it was declared twice."""
        name = self._names.get(target)
        return None if name is None else self._by_name[name]

    def names(self) -> tuple[str, ...]:
        """All names, in the order of declaration."""
        return tuple(self._by_name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[Task]:
        return iter(tuple(self._by_name.values()))

    def __len__(self) -> int:
        return len(self._by_name)


def _is_same(known: Task, task: Task) -> bool:
    return known.handler is task.handler or (bool(task.source) and known.source == task.source)
