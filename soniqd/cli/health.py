"""``soniqctl health``: a probe for whatever watches over the daemon."""

from __future__ import annotations

import click

from soniqd.cli.options import DURATION, json_option
from soniqd.cli.render import print_json, print_line
from soniqd.cli.session import Session


@click.command()
@click.option("--ready", is_flag=True, help="Ask whether jobs are being taken, not only whether the daemon lives.")
@click.option("--timeout", type=DURATION, default=5.0, help="How long to wait for the answer; default: 5s.")
@json_option
@click.pass_obj
def health(session: Session, *, ready: bool, timeout: float) -> None:
    """Tell whether the daemon is alive; with --ready, whether it takes jobs. Exit code 0 yes, 1 no, 3 no answer.

    Alive: each group has a process whose event loop goes round. A database that is away does not count: a restart would
    not bring it back. Ready: the database is there, and each group has a worker that has claimed something or found
    nothing to claim lately, or that has no room for more; and the scheduler takes part. A group that is drained, or
    scaled to 0, is not ready; a paused queue does not count.

    For a probe that restarts things, allow some failures in a row: a process that died is replaced within moments.
    """
    answer = session.daemon().call("health", {"ready": ready}, timeout_s=timeout)
    if session.as_json:
        print_json(answer)
    elif answer["healthy"]:
        print_line("ready" if ready else "alive", tone="good")
    else:
        for reason in answer["reasons"]:
            print_line(reason["text"], tone="bad")
    if not answer["healthy"]:
        click.get_current_context().exit(1)
