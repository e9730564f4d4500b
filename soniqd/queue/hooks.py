"""An application's code around each run: hooks that look on, middleware that wraps.

A hook takes any of its event's values, by parameter name; which ones is decided once, when it is added. It may be a
plain function (called on the event loop, so it has to be quick) or a coroutine function. Whatever a hook raises is
logged and changes nothing about the job.

Middleware is called as ``await middleware(context, call_next)`` and returns what the handler returned, or something
else; the first one added is the outermost. What it raises counts as raised by the handler.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from operator import itemgetter
from typing import Any

from soniqd.errors import ConfigurationError
from soniqd.log import catalogue, emit
from soniqd.queue.answers import left_of
from soniqd.queue.context import JobContext

Handler = Callable[[JobContext], Awaitable[Any]]
Middleware = Callable[[JobContext, Handler], Awaitable[Any]]

_Hook = tuple[Callable[..., Any], Callable[[str, str, Any], Any]]
"""A hook, and how it is called with all that its event offers."""


class Hooks:
    """The hooks and the middleware of one application. The three lists may be tested for being empty."""

    def __init__(self) -> None:
        self.before: list[_Hook] = []
        self.after: list[_Hook] = []
        self.error: list[_Hook] = []
        self.middleware: list[Middleware] = []

    def add_before(self, hook: Callable[..., Any]) -> None:
        """Add a hook of ``(job_name, job_id, args)``."""
        self.before.append((hook, _dispatch(hook, ("job_name", "job_id", "args"))))

    def add_after(self, hook: Callable[..., Any]) -> None:
        """Add a hook of ``(job_name, job_id, result)``, called when the handler returned."""
        self.after.append((hook, _dispatch(hook, ("job_name", "job_id", "result"))))

    def add_error(self, hook: Callable[..., Any]) -> None:
        """Add a hook of ``(job_name, job_id, error)``, called with the exception when an attempt failed."""
        self.error.append((hook, _dispatch(hook, ("job_name", "job_id", "error"))))

    def add_middleware(self, middleware: Middleware) -> None:
        call = middleware if inspect.isroutine(middleware) else getattr(middleware, "__call__", None)  # noqa: B004  its coroutine flag is what counts
        if not inspect.iscoroutinefunction(call):
            raise ConfigurationError(f"cannot add middleware {_name(middleware)}: it is not an async function")
        self.middleware.append(middleware)

    # Each runs the hooks as far as it gets without waiting, and returns what is left to be awaited, if anything.

    def run_before(self, job_name: str, job_id: str, args: dict[str, Any]) -> Awaitable[None] | None:
        return _run("before_job", self.before, job_name, job_id, args)

    def run_after(self, job_name: str, job_id: str, result: Any) -> Awaitable[None] | None:
        return _run("after_job", self.after, job_name, job_id, result)

    def run_error(self, job_name: str, job_id: str, error: BaseException | str) -> Awaitable[None] | None:
        return _run("on_error", self.error, job_name, job_id, error)

    def wrap(self, handler: Handler) -> Handler:
        """Return the handler call inside all middleware; the handler itself when there is none."""
        for middleware in reversed(self.middleware):
            handler = _Link(middleware, handler)
        return handler


class _Link:
    __slots__ = ("_middleware", "_next")

    def __init__(self, middleware: Middleware, call_next: Handler) -> None:
        self._middleware = middleware
        self._next = call_next

    def __call__(self, context: JobContext) -> Awaitable[Any]:
        return self._middleware(context, self._next)


def _run(event: str, hooks: list[_Hook], job_name: str, job_id: str, value: Any) -> Awaitable[None] | None:
    for place, (hook, call) in enumerate(hooks):
        try:
            answer = call(job_name, job_id, value)
            if answer is None or (left := left_of(answer)) is None:
                continue
        except Exception as error:  # noqa: BLE001  a hook is the application's; the job is not to suffer from it
            _report(event, hook, error, job_name=job_name, job_id=job_id)
            continue
        return _await(left, event, hooks[place:], (job_name, job_id, value))
    return None


async def _await(answer: Awaitable[Any], event: str, hooks: list[_Hook], offered: tuple[str, str, Any]) -> None:
    """Wait for what is left of the first of these hooks, and run the others."""
    try:
        await answer
    except Exception as error:  # noqa: BLE001  see above
        _report(event, hooks[0][0], error, job_name=offered[0], job_id=offered[1])
    left = _run(event, hooks[1:], *offered)
    if left is not None:
        await left


def _report(event: str, hook: Callable[..., Any], error: Exception, *, job_name: str, job_id: str) -> None:
    emit(
        catalogue.HOOK_FAILED,
        exc_info=error,
        hook=f"{event} {_name(hook)}",
        job_id=job_id,
        job_name=job_name,
        error=f"{type(error).__name__}: {error}",
    )


def _dispatch(hook: Callable[..., Any], offered: tuple[str, str, str]) -> Callable[[str, str, Any], Any]:
    if not callable(hook):
        raise ConfigurationError(f"cannot add hook {hook!r}: it is not callable")
    parameters = tuple(inspect.signature(hook).parameters.values())
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return hook
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return lambda *values: hook(**dict(zip(offered, values, strict=True)))
    taken = []
    for parameter in parameters:
        if parameter.name in offered and parameter.kind is not parameter.POSITIONAL_ONLY:
            taken.append(parameter)
        elif parameter.default is parameter.empty:
            raise ConfigurationError(
                f"cannot add hook {_name(hook)}: parameter {parameter.name!r} is none of {', '.join(offered)}"
            )
    return _by_place(hook, parameters, taken, offered) or _by_name(hook, taken, offered)


def _by_place(
    hook: Callable[..., Any],
    parameters: tuple[inspect.Parameter, ...],
    taken: list[inspect.Parameter],
    offered: tuple[str, str, str],
) -> Callable[[str, str, Any], Any] | None:
    """Call without keywords where the hook's first parameters are all that it takes."""
    if not taken or list(parameters[: len(taken)]) != taken or any(one.kind is one.KEYWORD_ONLY for one in taken):
        return None
    places = [offered.index(parameter.name) for parameter in taken]
    match places:
        case [0, 1, 2]:
            return hook
        case [0, 1]:
            return lambda job_name, job_id, _value: hook(job_name, job_id)
        case [0, 2]:
            return lambda job_name, _job_id, value: hook(job_name, value)
        case [place]:
            return lambda *values: hook(values[place])
    pick = itemgetter(*places)
    return lambda *values: hook(*pick(values))


def _by_name(
    hook: Callable[..., Any], taken: list[inspect.Parameter], offered: tuple[str, str, str]
) -> Callable[[str, str, Any], Any]:
    places = [(parameter.name, offered.index(parameter.name)) for parameter in taken]
    return lambda *values: hook(**{name: values[place] for name, place in places})


def _name(code: Any) -> str:
    return getattr(code, "__qualname__", None) or repr(code)
