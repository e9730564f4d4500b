"""The ``soniqctl`` command: options, the list of commands, and what errors become."""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from soniqd.cli.session import Session
from soniqd.cli.wording import printable
from soniqd.errors import DaemonUnreachableError, SoniqError
from soniqd.log.redact import redact
from soniqd.version import __version__

FAILED = 1
UNREACHABLE = 3
INTERRUPTED = 130

_COMMANDS = {
    "status": ("soniqd.cli.status:status", "Show the daemon, its processes and what is wrong with them."),
    "top": ("soniqd.cli.top:top", "Show what the processes do and use, again and again."),
    "health": ("soniqd.cli.health:health", "Tell whether the daemon is alive, or ready."),
    "reload": ("soniqd.cli.daemon:reload", "Use a changed configuration and new code, process by process."),
    "drain": ("soniqd.cli.daemon:drain", "Let workers claim nothing more; what runs goes on."),
    "resume": ("soniqd.cli.daemon:resume", "Let drained workers claim jobs again."),
    "restart": ("soniqd.cli.groups:restart", "Replace processes by fresh ones, one by one."),
    "scale": ("soniqd.cli.groups:scale", "Run another number of processes in a group."),
    "stop": ("soniqd.cli.daemon:stop", "Drain and leave; --now gives running jobs back."),
    "logs": ("soniqd.cli.follow:logs", "Follow what processes log and jobs print, line by line."),
    "events": ("soniqd.cli.follow:events", "Show what happened to the daemon and its processes."),
    "stacks": ("soniqd.cli.stacks:stacks", "Show what a process does now: its threads, its tasks, their jobs."),
    "upgrade": ("soniqd.cli.upgrade:upgrade", "Let the running daemon become the soniqd that is installed now."),
    "setup": ("soniqd.cli.database:setup", "Create the database, or bring its tables up to this release."),
    "migrate-status": ("soniqd.cli.database:migrate_status", "Show which migrations the database has."),
    "doctor": ("soniqd.cli.doctor:doctor", "Examine the database, and tell what is wrong with it and what to do."),
    "enqueue": ("soniqd.cli.enqueue:enqueue", "Store a job by its task name."),
    "jobs": ("soniqd.cli.jobs:jobs", "List, show, explain, cancel and delete jobs."),
    "queues": ("soniqd.cli.queues:queues", "List, pause and resume queues."),
    "schedules": ("soniqd.cli.schedules:schedules", "List, pause, resume and remove recurring jobs."),
    "dead-letter": ("soniqd.cli.dead_letter:dead_letter", "List, replay and delete jobs that failed for good."),
    "inspect": ("soniqd.cli.workers:inspect", "Show the workers of all hosts; clean up lost ones."),
    "tasks-check": ("soniqd.cli.workers:tasks_check", "Check that every queued job has a worker that knows its task."),
    "worker": ("soniqd.cli.alone:worker", "Run a worker here, without a daemon."),
    "scheduler": ("soniqd.cli.alone:scheduler", "Run a scheduler here, without a daemon."),
    "config": ("soniqd.cli.config:config", "Check, show and explain the daemon's configuration."),
}
"""Where each command is, and what the list of commands says about it without importing it."""


class _Commands(click.Group):
    """Imports a command when it is needed; turns errors into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in _COMMANDS.items()])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from soniqd.settings.problems import nearest  # noqa: PLC0415  for wrong commands only

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if near := nearest(args[0], _COMMANDS):
                message = f'There is no command "{args[0]}"; did you mean "{near}"?'
                raise click.UsageError(message, ctx) from error
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DaemonUnreachableError as error:
            _tell(ctx, error)
            ctx.exit(UNREACHABLE)
        except SoniqError as error:
            _tell(ctx, error)
            ctx.exit(FAILED)
        except BrokenPipeError:
            # The reader of a pipe has left; what is still buffered must not fail at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(FAILED)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:  # noqa: BLE001  people get a line; $SONIQ_DEBUG brings the rest
            if os.environ.get("SONIQ_DEBUG"):
                click.echo(redact(traceback.format_exc()), err=True, nl=False)
            _tell(ctx, SoniqError(f"internal error: {error!r}; with SONIQ_DEBUG=1 there is a traceback"))
            ctx.exit(FAILED)


def _tell(ctx: click.Context, error: SoniqError) -> None:
    problems = tuple(getattr(error, "problems", ()) or error.context.get("problems", ()))
    code = error.context.get("code", error.code)
    message = redact(str(error))
    if isinstance(ctx.obj, Session) and ctx.obj.as_json:
        body = {"code": code, "message": message, "problems": [redact(problem) for problem in problems]}
        click.echo(json.dumps({"error": body}), err=True)
        return
    if not problems or problems[0] not in message:
        click.echo(f"soniqctl: {printable(message)}", err=True)
    for problem in problems:
        click.echo(f"soniqctl: {printable(redact(problem))}", err=True)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "-c",
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="SONIQ_CONFIG",
    help="The daemon's configuration; default $SONIQ_CONFIG, or /etc/soniq.toml if it can be read.",
)
@click.option("--socket", type=click.Path(path_type=Path), help="The daemon's control socket.")
@click.option("--database-url", metavar="URL", help="The database, instead of the configured one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.version_option(__version__, message="soniqctl %(version)s")
@click.pass_context
def main(
    ctx: click.Context, config: Path | None, socket: Path | None, database_url: str | None, *, as_json: bool
) -> None:
    """Steer soniqd and look after its jobs.

    Exit codes: 0 done, 1 refused or failed, 2 usage, 3 daemon not reachable.
    """
    ctx.obj = Session(config=config, socket=socket, database_url=database_url, as_json=as_json)


if __name__ == "__main__":
    main()
