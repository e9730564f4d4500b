"""What a handler accepts: compiled once when it is declared, checked at each enqueue and before each call."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from soniqd.errors import ConfigurationError, InvalidArgumentsError
from soniqd.queue.context import JobContext

ENQUEUE_OPTIONS = frozenset({"args", "queue", "priority", "scheduled_at", "unique", "dedup_key", "connection"})
"""Keywords that ``enqueue`` keeps for itself: a job argument of that name has to travel in ``args=``."""

_CONTEXT_NAME = re.compile(r"(?:^|[^\w])JobContext(?:$|[^\w])")


@dataclass(frozen=True, slots=True)
class HandlerSignature:
    """The arguments that a handler takes as keywords; ``open_ended`` if it has ``**kwargs``.

    ``context`` names the parameter that receives the JobContext; it is in neither set.
    """

    accepted: frozenset[str]
    required: frozenset[str]
    open_ended: bool = False
    context: str | None = None

    def check(self, task_name: str, args: dict[str, Any]) -> None:
        """Raise InvalidArgumentsError unless the handler can be called with these."""
        keys = args.keys()
        if keys == self.required:
            return
        if keys >= self.required and (keys <= self.accepted or (self.open_ended and self.context not in keys)):
            return
        raise InvalidArgumentsError(
            f"cannot run {task_name!r} with these arguments: {'; '.join(self._problems(args))}", task_name=task_name
        )

    def _problems(self, args: dict[str, Any]) -> list[str]:
        problems = [_missing(name) for name in sorted(self.required - args.keys())]
        for name in args:
            if name == self.context:
                problems.append(f"{name!r} is the JobContext, which the worker hands in")
            elif name not in self.accepted and not self.open_ended:
                problems.append(f"unknown argument {name!r}{_advice(name, self.accepted)}")
        return problems


@dataclass(frozen=True, slots=True)
class ArgumentNames:
    """What is said about a task's arguments to those who do not have its code; None is not known, or any."""

    required: tuple[str, ...] | None = None
    accepted: tuple[str, ...] | None = None


def argument_names(signature: HandlerSignature | None, model: type[Any] | None) -> ArgumentNames:
    """Say which arguments a job has to have and may have: never less than what the worker would accept."""
    if model is not None:
        return _names_of_model(model)
    if signature is None:
        return ArgumentNames()
    accepted = None if signature.open_ended else tuple(sorted(signature.accepted))
    return ArgumentNames(tuple(sorted(signature.required)), accepted)


def _names_of_model(model: type[Any]) -> ArgumentNames:
    """Read its fields, unless it may accept what they do not show."""
    fields = getattr(model, "model_fields", None)
    if not isinstance(fields, dict) or not _is_plain(model):
        return ArgumentNames()
    names = {field.validation_alias or name: field.is_required() for name, field in fields.items()}
    required = tuple(name for name, is_required in names.items() if is_required)
    return ArgumentNames(required, tuple(names) if model.model_config.get("extra") == "forbid" else None)


def _is_plain(model: Any) -> bool:
    """Whether a pydantic model takes its fields by one name each, as they come; pydantic is not imported here."""
    if not model.__pydantic_complete__:  # of a type that is declared behind it: its aliases are not known yet
        return False
    if model.__pydantic_root_model__ or model.__pydantic_custom_init__:
        return False
    if any(model.model_config.get(key) for key in ("populate_by_name", "validate_by_name")):
        return False
    if any(not isinstance(field.validation_alias, str | None) for field in model.model_fields.values()):
        return False
    if any(one.info.mode != "after" for one in model.__pydantic_decorators__.model_validators.values()):
        return False
    own = [cls for cls in model.__mro__ if not cls.__module__.startswith("pydantic.")]
    return not any(name in vars(cls) for cls in own for name in ("model_validate", "__get_pydantic_core_schema__"))


def _advice(name: Any, accepted: frozenset[str]) -> str:
    if name in ENQUEUE_OPTIONS:
        return f" (the option {name}= goes into .options({name}=...) or app.enqueue)"
    near = get_close_matches(str(name), accepted, n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def _missing(name: str) -> str:
    if name in ENQUEUE_OPTIONS:
        return f"argument {name!r} is missing ({name}= is an option of enqueue: pass it as args={{{name!r}: ...}})"
    return f"argument {name!r} is missing"


def read_signature(handler: Callable[..., Any], task_name: str) -> HandlerSignature:
    """Inspect a handler; raises ConfigurationError for one that keywords alone cannot call."""
    try:
        parameters = list(inspect.signature(handler).parameters.values())
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"cannot declare {task_name!r}: its signature is unknown ({error})") from error
    accepted: set[str] = set()
    required: set[str] = set()
    contexts: list[str] = []
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ConfigurationError(
                f"cannot declare {task_name!r}: parameter {parameter.name!r} is positional-only, "
                "and job arguments are passed by name"
            )
        if _wants_context(parameter.annotation, handler):
            contexts.append(parameter.name)
            continue
        accepted.add(parameter.name)
        if parameter.default is parameter.empty:
            required.add(parameter.name)
    if len(contexts) > 1:
        raise ConfigurationError(f"cannot declare {task_name!r}: {' and '.join(contexts)} both ask for the JobContext")
    return HandlerSignature(
        accepted=frozenset(accepted),
        required=frozenset(required),
        open_ended=any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters),
        context=contexts[0] if contexts else None,
    )


def _wants_context(annotation: Any, handler: Callable[..., Any]) -> bool:
    if annotation is inspect.Parameter.empty:
        return False
    if isinstance(annotation, str):
        try:
            annotation = _resolve(annotation, handler)
        except Exception:  # noqa: BLE001  an annotation is any expression; one that fails is judged by its text
            return _CONTEXT_NAME.search(annotation) is not None
    return _is_context(annotation)


def _resolve(annotation: str, handler: Callable[..., Any]) -> Any:
    function = inspect.unwrap(handler)
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    function = getattr(function, "__func__", function)
    if not inspect.isfunction(function):
        function = type(function).__call__
    closure = dict(inspect.getclosurevars(function).nonlocals)
    carrier = types.SimpleNamespace(__annotations__={"value": annotation})
    return typing.get_type_hints(carrier, getattr(function, "__globals__", {}), closure, include_extras=True)["value"]


def _is_context(annotation: Any) -> bool:
    if isinstance(annotation, typing.ForwardRef | str):
        return _CONTEXT_NAME.search(getattr(annotation, "__forward_arg__", str(annotation))) is not None
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return any(_is_context(part) for part in typing.get_args(annotation))
    return annotation is JobContext


def validate_with_model(model: type[Any], task_name: str, args: dict[str, Any]) -> Any:
    """Return the pydantic model made from job arguments; raises InvalidArgumentsError with each finding's path."""
    try:
        return model.model_validate(args)
    except ValueError as error:
        findings: list[dict[str, Any]] = getattr(error, "errors", list)()
        problems = [f"{_dotted(finding['loc'])}: {finding['msg']}" for finding in findings] or [str(error)]
        raise InvalidArgumentsError(
            f"cannot run {task_name!r} with these arguments: {'; '.join(problems)}", task_name=task_name
        ) from error


def _dotted(location: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in location) or "arguments"
