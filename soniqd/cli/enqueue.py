"""``soniqctl enqueue``: store a job by its name."""

from __future__ import annotations

import json
from typing import Any

import click

from soniqd.backends import StorageBackend
from soniqd.cli.options import DEDUP_KEY, DELAY, QUEUE, TASK_NAME, json_option
from soniqd.cli.render import print_json, print_line, print_note
from soniqd.cli.session import Session
from soniqd.model import JobId, NewJob
from soniqd.queue.ids import new_job_id
from soniqd.queue.payload import args_hash, encode_args

_SMALLEST, _BIGGEST = -(2**31), 2**31 - 1  # PostgreSQL's integer


class _ArgumentsType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        try:
            args = json.loads(value)
        except (ValueError, RecursionError) as error:
            self.fail(f"not JSON: {error}", param, ctx)
        if not isinstance(args, dict):
            self.fail(f"expected a JSON object of the handler's arguments, got {value[:60]}", param, ctx)
        return args


@click.command()
@click.argument("name", type=TASK_NAME)
@click.option("--args", "args", type=_ArgumentsType(), default="{}", help="The handler's arguments, a JSON object.")
@click.option("--queue", type=QUEUE, default="default", show_default=True, help="The queue to store it in.")
@click.option(
    "--priority",
    type=click.IntRange(_SMALLEST, _BIGGEST),
    metavar="N",
    default=100,
    show_default=True,
    help="Lower runs first.",
)
@click.option("--delay", type=DELAY, help="Run it only after this long: seconds, or 5m, 2h.")
@click.option("--unique", is_flag=True, help="Not if the same job with the same arguments is queued already.")
@click.option("--dedup-key", type=DEDUP_KEY, metavar="KEY", help="Not if a job with this key is queued already.")
@json_option
@click.pass_obj
def enqueue(
    session: Session,
    name: str,
    *,
    args: dict[str, Any],
    queue: str,
    priority: int,
    delay: float | None,
    unique: bool,
    dedup_key: str | None,
) -> None:
    """Store a job by its task NAME.

    soniqctl imports no jobs modules: what the task declares as its queue, its priority and its number of retries is not
    known here. Name the queue if only some workers claim from it.
    """
    if not name.strip() or not queue.strip():
        raise click.UsageError("neither the name nor the queue can be empty")
    job = NewJob(
        id=new_job_id(),
        name=name,
        args_json=encode_args(args),
        queue=queue,
        priority=priority,
        max_attempts=session.database.max_retries + 1,
        unique=unique,
        args_hash=args_hash(args) if unique else None,
        dedup_key=dedup_key,
        delay_s=delay,
        producer_id="soniqctl",
    )
    stored, unknown = session.with_backend(lambda backend: _store(backend, job))
    created = stored == job.id
    if session.as_json:
        print_json({"id": stored, "job_name": name, "queue": queue, "created": created})
    else:
        print_line(stored if created else f"{stored} is queued already")
    if unknown:
        print_note(f"note: no live worker has registered {name}; the job waits for one")


async def _store(backend: StorageBackend, job: NewJob) -> tuple[JobId, bool]:
    [stored] = await backend.enqueue([job])
    return stored, job.name in await backend.unclaimable_names()
