"""Turn a function and what its decorator says into a Task."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import PurePath
from typing import Any, TypedDict

from soniqd.errors import ConfigurationError
from soniqd.policy.retry import MAX_RETRY_DELAY_S, RetryRule
from soniqd.queue import values
from soniqd.queue.arguments import read_signature
from soniqd.queue.registry import Task
from soniqd.queue.values import Seconds


class JobOptions(TypedDict, total=False):
    """What ``@app.job`` accepts. ``max_retries`` and ``validate`` are other names of ``retries`` and ``args_model``."""

    name: str | None
    retries: int | None
    max_retries: int | None
    retry_delay: Seconds | Sequence[Seconds] | None
    retry_backoff: bool
    retry_max_delay: Seconds | None
    retry_jitter: bool
    timeout: Seconds | None
    queue: str | None
    priority: int | None
    unique: bool
    args_model: type[Any] | None
    validate: type[Any] | None


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a declaration falls back to."""

    max_retries: int = 3
    priority: int = 100
    task_name_pattern: str = ".*"


def declare(handler: Callable[..., Any], defaults: Defaults, options: JobOptions) -> Task:
    """Check everything that can be checked at import time; raises ConfigurationError or InvalidTaskNameError."""
    _check_handler(handler)
    explicit = options.get("name")
    name = default_task_name(handler) if explicit is None else values.task_name(explicit, defaults.task_name_pattern)
    try:
        return _declare(handler, name, defaults, options)
    except ValueError as error:
        raise ConfigurationError(f"cannot declare {name!r} at {source_of(handler)}: {error}") from error


def default_task_name(handler: Callable[..., Any]) -> str:
    """Return ``module.qualname``.

    A function of the main program is named for the module that it would be when imported: ``python -m shop.jobs``
    and ``python jobs.py`` give ``shop.jobs.send`` and ``jobs.send``, which is what a worker that imports them knows.
    """
    qualname = getattr(handler, "__qualname__", None)
    if qualname is None or "<lambda>" in qualname:
        raise ConfigurationError(f"cannot declare {handler!r}: it has no name of its own; pass name=")
    module = str(getattr(handler, "__module__", None) or "__main__")
    return f"{_main_module() if module == '__main__' else module}.{qualname}"


def _main_module() -> str:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    stem = PurePath(getattr(main, "__file__", None) or "").stem
    return stem if stem.isidentifier() else "__main__"


def source_of(handler: Callable[..., Any]) -> str:
    """Say where a handler is defined: "file:line", or its repr."""
    code = getattr(inspect.unwrap(handler), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(handler)


def _check_handler(handler: Any) -> None:
    problem = None
    if inspect.isclass(handler):
        problem = "it is a class, not a function"
    elif isinstance(handler, staticmethod | classmethod):
        problem = f"put @{type(handler).__name__} outside of the job's decorator"
    elif not callable(handler):
        problem = "it is not a function"
    elif inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        problem = "a generator function does not run to an end; use a plain or an async function"
    if problem:
        raise ConfigurationError(f"cannot declare {getattr(handler, '__qualname__', handler)!r} as a job: {problem}")


def _declare(handler: Callable[..., Any], name: str, defaults: Defaults, options: JobOptions) -> Task:
    for option in options:
        if option not in JobOptions.__annotations__:
            near = get_close_matches(option, JobOptions.__annotations__, n=1)
            raise ValueError(f"unknown option {option!r}" + (f", did you mean {near[0]!r}?" if near else ""))
    signature = read_signature(handler, name)
    if "self" in signature.required:
        raise ValueError("a method needs its object; declare a function, or the bound method with name=")
    retries = _one_of(options, "retries", "max_retries")
    priority, queue = options.get("priority"), options.get("queue")
    timeout = options.get("timeout")
    call, is_async = _callable_form(handler)
    return Task(
        name=name,
        handler=call,
        is_async=is_async,
        queue="default" if queue is None else values.queue_name(queue),
        priority=defaults.priority if priority is None else values.priority(priority),
        max_retries=defaults.max_retries if retries is None else values.count("retries", retries),
        retry=_retry_rule(options),
        timeout_s=None if timeout is None else values.seconds("timeout", timeout),
        unique=values.boolean("unique", options.get("unique", False)),
        args_model=values.model(_one_of(options, "args_model", "validate")),
        signature=signature,
        source=source_of(handler),
        defaulted=frozenset(
            field for field, said in (("max_retries", retries), ("priority", priority)) if said is None
        ),
    )


def _callable_form(handler: Callable[..., Any]) -> tuple[Callable[..., Any], bool]:
    """Return what to call and whether it gives a coroutine.

    A plain wrapper around a coroutine function gives a coroutine too, unless it is there to run it to its end.
    """
    inner = handler.func if isinstance(handler, functools.partial) else handler
    if not inspect.isroutine(inner):
        inner = type(inner).__call__
    if inspect.iscoroutinefunction(inner):
        return handler, True
    if not inspect.iscoroutinefunction(inspect.unwrap(inner)):
        return handler, False

    async def finish(**arguments: Any) -> Any:
        answer = handler(**arguments)
        return await answer if inspect.isawaitable(answer) else answer

    return finish, True


def _one_of(options: JobOptions, first: str, second: str) -> Any:
    given = [options[name] for name in (first, second) if options.get(name) is not None]  # type: ignore[literal-required]
    if len(given) == 2 and given[0] != given[1]:
        raise ValueError(f"{first} and {second} say different things: {given[0]!r} and {given[1]!r}")
    return given[0] if given else None


def _retry_rule(options: JobOptions) -> RetryRule:
    delay, longest = options.get("retry_delay"), options.get("retry_max_delay")
    stated: float | tuple[float, ...]
    if isinstance(delay, Sequence) and not isinstance(delay, str):
        stated = tuple(_delay("retry_delay", each) for each in delay)
        if not stated:
            raise ValueError("retry_delay is an empty sequence")
    else:
        stated = 0.0 if delay is None else _delay("retry_delay", delay)
    return RetryRule(
        delay_s=stated,
        backoff=values.boolean("retry_backoff", options.get("retry_backoff", False)),
        max_delay_s=None if longest is None else _delay("retry_max_delay", longest),
        jitter=values.boolean("retry_jitter", options.get("retry_jitter", True)),
    )


def _delay(what: str, value: Any) -> float:
    delay_s = values.seconds(what, value)
    if delay_s > MAX_RETRY_DELAY_S:
        raise ValueError(f"{what} must be at most {timedelta(seconds=MAX_RETRY_DELAY_S).days} days, not {value!r}")
    return delay_s
