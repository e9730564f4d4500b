"""``soniqctl queues``: list, pause, resume."""

from __future__ import annotations

import click

from soniqd.backends import StorageBackend
from soniqd.cli.known import queues_known
from soniqd.cli.options import QUEUE, json_option
from soniqd.cli.render import print_json, print_line, print_note, print_table
from soniqd.cli.session import Session
from soniqd.cli.wording import duration
from soniqd.settings.problems import did_you_mean


@click.group()
def queues() -> None:
    """List, pause and resume queues."""


@queues.command("list", short_help="List queues with their jobs.")
@json_option
@click.pass_obj
def list_queues(session: Session) -> None:
    """List queues with their jobs; `oldest` is the age of the oldest one that could run."""
    records = session.with_backend(lambda backend: backend.list_queues())
    if session.as_json:
        print_json(
            [
                {
                    **record.stats,
                    "paused": record.paused,
                    "oldest_queued_s": record.oldest_queued_s,
                    "estimated": record.estimated,
                }
                for record in records
            ]
        )
        return
    rows = [
        (
            record.name,
            "paused" if record.paused else "open",
            record.stats["queued"],
            record.stats["processing"],
            record.stats["done"],
            record.stats["dead_letter"],
            record.stats["cancelled"],
            duration(record.oldest_queued_s),
        )
        for record in records
    ]
    print_table(
        ("queue", "state", "queued", "processing", "done", "dead letters", "cancelled", "oldest"),
        rows,
        empty="no queues",
    )
    if any(record.estimated for record in records):
        print_line("there are too many jobs to count them one by one: large numbers are estimates")


@queues.command()
@click.argument("queue", type=QUEUE)
@json_option
@click.pass_obj
def pause(session: Session, queue: str) -> None:
    """Let no worker of any host claim from a queue."""
    _set_paused(session, queue, paused=True)


@queues.command()
@click.argument("queue", type=QUEUE)
@json_option
@click.pass_obj
def resume(session: Session, queue: str) -> None:
    """Let workers claim from a queue again."""
    _set_paused(session, queue, paused=False)


def _set_paused(session: Session, queue: str, *, paused: bool) -> None:
    async def act(backend: StorageBackend) -> tuple[bool, set[str]]:
        known = await queues_known(backend)
        return await backend.set_queue_paused(queue, paused=paused), known

    changed, known = session.with_backend(act)
    if session.as_json:
        print_json({"queue": queue, "paused": paused, "changed": changed})
    else:
        print_line(
            f"{queue} {'is' if changed else 'was'} {'paused' if paused else 'open'}{'' if changed else ' already'}"
        )
    if queue not in known:
        print_note(f"note: nothing is in a queue {queue} yet, nor served by that name{did_you_mean(queue, known)}")
