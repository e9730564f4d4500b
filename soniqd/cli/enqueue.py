"""``soniqctl enqueue``: store a job by its name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import click

from soniqd.backends import StorageBackend
from soniqd.cli.known import daemons_tasks, similar_task
from soniqd.cli.options import DEDUP_KEY, DELAY, QUEUE, TASK_NAME, json_option
from soniqd.cli.render import print_json, print_line, print_note
from soniqd.cli.session import Session
from soniqd.errors import InvalidArgumentsError
from soniqd.model import JobFacts, JobId, NewJob, TaskDefaults
from soniqd.queue.ids import new_job_id
from soniqd.queue.payload import args_hash, encode_args
from soniqd.settings.problems import did_you_mean

_EXAMPLE = '{"to": "ada@example.org", "copies": 2}'
_SMALLEST, _BIGGEST = -(2**31), 2**31 - 1  # PostgreSQL's integer


class _ArgumentsType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        try:
            args = json.loads(value)
        except (ValueError, RecursionError) as error:
            self.fail(f"not JSON: {error}; it should look like '{_EXAMPLE}'", param, ctx)
        if not isinstance(args, dict):
            self.fail(f"expected a JSON object of the handler's arguments, got {value[:60]}", param, ctx)
        return args


@click.command()
@click.argument("name", type=TASK_NAME)
@click.option("--args", "args", type=_ArgumentsType(), default="{}", help="The handler's arguments, a JSON object.")
@click.option("--queue", type=QUEUE, help="The queue to store it in; default: the task's own.")
@click.option(
    "--priority",
    type=click.IntRange(_SMALLEST, _BIGGEST),
    metavar="N",
    help="Lower runs first; default: the task's own.",
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
    queue: str | None,
    priority: int | None,
    delay: float | None,
    unique: bool,
    dedup_key: str | None,
) -> None:
    """Store a job by its task NAME.

    soniqctl imports no jobs modules: the task's own queue, priority, retries and uniqueness are what the workers that
    know it say about it. While no such worker is up they are "default", 100, the configured retries, and not unique.

    Arguments that are missing, or that the task does not have, are refused where a worker that is up says which ones
    there are; their values are checked by the worker only, and a job with wrong ones becomes a dead letter.
    """
    if not name.strip() or (queue is not None and not queue.strip()):
        raise click.UsageError("neither the name nor the queue can be empty")
    wish = _Wish(name, args, queue, priority, delay, unique, dedup_key)
    job, stored, note = session.with_backend(lambda backend: _store(session, backend, wish))
    created = stored == job.id
    if session.as_json:
        print_json({"id": stored, "job_name": name, "queue": job.queue, "created": created})
    else:
        print_line(stored if created else f"{stored} is queued already")
    if note:
        print_note(f"note: {note}")


@dataclass(frozen=True, slots=True)
class _Wish:
    """What was asked for; None is the task's own."""

    name: str
    args: dict[str, Any]
    queue: str | None
    priority: int | None
    delay_s: float | None
    unique: bool
    dedup_key: str | None


async def _store(session: Session, backend: StorageBackend, wish: _Wish) -> tuple[NewJob, JobId, str]:
    """Store it; return the job, the id of what is queued now, and what may keep it from being run, if anything."""
    up = await backend.task_defaults(wish.name, heard_within_s=session.database.heartbeat_timeout_s)
    said = up or await backend.task_defaults(wish.name)
    problems = "" if said is None else _problems(wish, said)
    if up and problems:
        raise InvalidArgumentsError(f"cannot enqueue {wish.name}: {problems}", task_name=wish.name)
    job = _new_job(wish, said or TaskDefaults(max_attempts=session.database.max_retries + 1))
    [stored] = await backend.enqueue([job])
    if problems:  # no refusal: the next workers may be of a release that takes other arguments
        note = f"no worker that knows {wish.name} is up; by what those said that are lost, {problems}"
        return job, stored, note
    if said is not None and wish.queue is None:
        return job, stored, ""
    facts = await backend.job_facts(stored)
    return job, stored, "" if facts is None else await _note(session, backend, facts)


def _problems(wish: _Wish, task: TaskDefaults) -> str:
    """Return why the task cannot be called with these arguments, by what workers have said, or nothing."""
    missing = [name for name in task.required or () if name not in wish.args]
    unknown = [] if task.accepted is None else [name for name in wish.args if name not in task.accepted]
    problems = [f'the argument "{name}" is missing' for name in missing]
    problems += [f'there is no argument "{name}"{did_you_mean(name, task.accepted or ())}' for name in unknown]
    return ", ".join(problems)


async def _note(session: Session, backend: StorageBackend, facts: JobFacts) -> str:
    """Say that no worker that is up can take it, if it is so."""
    name, queue, stored = facts.record["job_name"], facts.record["queue"], facts.record["id"]
    if not facts.knowers:
        hint = await similar_task(backend, name, daemons_tasks(session))
        return (
            f"no live worker has registered {name}{hint or ';'} the job waits for one (if the name is wrong: "
            f"soniqctl jobs cancel {stored})"
        )
    served = {name for worker in facts.workers for name in worker.queues}
    if all(worker.queues for worker in facts.workers) and queue not in served:
        hint = did_you_mean(queue, served)
        return f"no worker that is up serves the queue {queue}{hint or ';'} soniqctl jobs why {stored}"
    return ""


def _new_job(wish: _Wish, task: TaskDefaults) -> NewJob:
    unique = wish.unique or task.unique
    return NewJob(
        id=new_job_id(),
        name=wish.name,
        args_json=encode_args(wish.args),
        queue=task.queue if wish.queue is None else wish.queue,
        priority=task.priority if wish.priority is None else wish.priority,
        max_attempts=task.max_attempts,
        unique=unique,
        args_hash=args_hash(wish.args) if unique else None,
        dedup_key=wish.dedup_key,
        delay_s=wish.delay_s,
        producer_id="soniqctl",
    )
