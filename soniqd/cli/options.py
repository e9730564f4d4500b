"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from soniqd.cli.session import Session
from soniqd.model import JobId
from soniqd.queue import values
from soniqd.queue.ids import parse_job_id
from soniqd.settings.durations import parse_duration_s

F = TypeVar("F", bound=Callable[..., Any])


def _set_json(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001  click's signature
    session = ctx.find_object(Session)
    if value and session is not None:
        session.as_json = True


def json_option(command: F) -> F:
    """Let ``--json`` stand after the command, too."""
    option = click.option(
        "--json", is_flag=True, expose_value=False, callback=_set_json, is_eager=True, help="Print JSON."
    )
    return option(command)


class _JobIdType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> JobId:
        job_id = parse_job_id(value)
        if job_id is None:
            self.fail(f'"{value}" is not the id of a job: ids are UUIDs', param, ctx)
        return job_id


class _DurationType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration_s(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _AcceptedType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """What the library accepts from producers, too."""

    def __init__(self, name: str, accept: Callable[[Any], Any]) -> None:
        self.name = name
        self._accept = accept

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._accept(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _delay_s(value: Any) -> float:
    delay_s = parse_duration_s(value)
    if delay_s > values.LONGEST_DELAY_S:
        raise ValueError("expected at most 100 years")
    return delay_s


class _ListType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    name = "a,b"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        del param, ctx
        items = value.split(",") if isinstance(value, str) else value
        return tuple(item.strip() for item in items if item.strip())


JOB_ID = _JobIdType()
DURATION = _DurationType()
DELAY = _AcceptedType("duration", _delay_s)
QUEUE = _AcceptedType("queue", values.queue_name)
TASK_NAME = _AcceptedType("name", values.stored_task_name)
DEDUP_KEY = _AcceptedType("key", values.dedup_key)
COMMA_SEPARATED = _ListType()
