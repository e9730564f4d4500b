"""Entry points: be the daemon, or try its configuration."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from setproctitle import setproctitle

from soniqd.control.message import Request
from soniqd.control.peer import Peer
from soniqd.control.server import ControlServer
from soniqd.log.notify import Notifier
from soniqd.settings.daemon import DaemonSettings
from soniqd.supervisor.check import check_modules
from soniqd.supervisor.commands import Commands
from soniqd.supervisor.master import Master
from soniqd.supervisor.reaper import become_subreaper
from soniqd.supervisor.signals import Signals


def run(settings: DaemonSettings, config: Path | None) -> int:
    """Be the daemon until it is stopped; returns the exit code. Logging is set up by the caller."""
    return asyncio.run(_run(settings, config))


def check(settings: DaemonSettings) -> list[str]:
    """Boot a generation as ``soniqd -t`` does, and return what is wrong with the jobs modules."""
    return asyncio.run(check_modules(settings))


async def _run(settings: DaemonSettings, config: Path | None) -> int:
    become_subreaper()
    setproctitle(f"soniqd: master {config or ''}".rstrip())
    master = Master(settings, config, notifier=Notifier.from_environ())
    commands = Commands(master)

    async def handle(request: Request, peer: Peer) -> dict[str, Any]:
        del peer
        return await commands.answer(request.command, dict(request.params))

    server = ControlServer(settings.soniqd.socket, handle, group=settings.soniqd.socket_group)
    await server.start()
    Signals(master, state=commands.state).install()
    try:
        return await master.run()
    finally:
        await server.close()
