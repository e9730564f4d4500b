"""What a decorated function offers beside being called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from soniqd.errors import ConfigurationError
from soniqd.queue.new_jobs import RunTime

if TYPE_CHECKING:
    from soniqd.app.enqueueing import Enqueueing

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

_ATTRIBUTES = ("task_name", "enqueue", "options")
_MARK = "__soniqd_job__"


class JobFunction(Protocol[P, R_co]):
    """A declared function: callable as before, and enqueueable."""

    __name__: str
    __qualname__: str
    __module__: str
    task_name: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def enqueue(self, **arguments: Any) -> Coroutine[Any, Any, str]:
        """Enqueue a job with these arguments; every keyword is one, none is an option."""

    def options(
        self,
        *,
        queue: str | None = None,
        priority: int | None = None,
        scheduled_at: RunTime | None = None,
        unique: bool | None = None,
        dedup_key: str | None = None,
        connection: Any = None,
    ) -> BoundJob:
        """Return something to enqueue with, under these options."""


class BoundJob:
    """A task with options, ready to be enqueued any number of times."""

    __slots__ = ("_app", "_options", "_target")

    def __init__(self, app: Enqueueing, target: str, options: dict[str, Any]) -> None:
        self._app = app
        self._target = target
        self._options = options

    def enqueue(self, **arguments: Any) -> Coroutine[Any, Any, str]:
        """Enqueue a job with these arguments; every keyword is one, none is an option."""
        return self._app.enqueue(self._target, args=arguments, **self._options)


def carrier(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what the attributes go on: the function, or a wrapper where that carries some already or cannot."""
    if inspect.isfunction(function) and not hasattr(function, _MARK):
        return function
    return functools.update_wrapper(
        _async_call(function) if inspect.iscoroutinefunction(function) else _call(function), function
    )


def _async_call(function: Callable[..., Any]) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return run


def _call(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return run


def attach(app: Enqueueing, function: Callable[..., Any], task_name: str) -> None:
    """Put ``task_name``, ``enqueue`` and ``options`` on a function; raises ConfigurationError where they are taken."""
    if not hasattr(function, _MARK):
        taken = [name for name in _ATTRIBUTES if hasattr(function, name)]
        if taken:
            raise ConfigurationError(f"cannot declare {task_name!r}: the function has its own {', '.join(taken)}")

    def options(**options: Any) -> BoundJob:
        unknown = options.keys() - _OPTION_NAMES
        if unknown:
            raise TypeError(f"options() has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(_OPTION_NAMES))}")
        return BoundJob(app, task_name, options)

    additions = {
        _MARK: True,
        "task_name": task_name,
        "enqueue": BoundJob(app, task_name, {}).enqueue,
        "options": options,
    }
    for name, value in additions.items():
        setattr(function, name, value)


_OPTION_NAMES = frozenset({"queue", "priority", "scheduled_at", "unique", "dedup_key", "connection"})
