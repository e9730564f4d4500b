"""``soniqctl stacks``: what one process of the daemon does just now."""

from __future__ import annotations

import click

from soniqd.cli.options import json_option
from soniqd.cli.render import print_json, print_line
from soniqd.cli.session import Session


@click.command()
@click.argument("worker")
@json_option
@click.pass_obj
def stacks(session: Session, worker: str) -> None:
    """Show the stacks of a process's threads and asyncio tasks, with their jobs.

    WORKER is its slot (default/1), its pid, its worker id or the first six characters of that. The process goes on as
    if nothing had been asked. It answers also while a job blocks its event loop.
    """
    answer = session.daemon().call("stacks", {"worker": worker})
    if session.as_json:
        print_json(answer)
        return
    for line in str(answer["stacks"]).split("\n"):
        print_line(line)
