"""Entry points: be the daemon, go on as the daemon, or try what it would do."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setproctitle import setproctitle

from soniqd.control.activation import passed_socket
from soniqd.control.message import Request
from soniqd.control.peer import Peer
from soniqd.control.server import ControlServer
from soniqd.control.stream import Stream
from soniqd.log import catalogue, emit
from soniqd.log.notify import Notifier
from soniqd.log.setup import configure_logging
from soniqd.settings import restore_settings
from soniqd.settings.daemon import DaemonSettings
from soniqd.supervisor import takeover
from soniqd.supervisor.check import Findings, check_all
from soniqd.supervisor.commands import Commands
from soniqd.supervisor.descriptors import raise_descriptor_limit
from soniqd.supervisor.handover import Handover, judge
from soniqd.supervisor.interpreter import StartedServer
from soniqd.supervisor.master import Master
from soniqd.supervisor.reaper import become_subreaper
from soniqd.supervisor.selfcheck import answer_questions
from soniqd.supervisor.signals import Signals
from soniqd.supervisor.upgrade import Upgrade, UpgradeResult
from soniqd.version import __version__


def run(settings: DaemonSettings, config: Path | None, *, early: StartedServer | None = None) -> int:
    """Be the daemon until it is stopped; returns the exit code. Logging is set up by the caller.

    ``early`` is to be the first fork server.
    """
    return asyncio.run(_run(settings, config, None, early))


def go_on() -> int:
    """Be the daemon that an earlier image of this process was; as a last resort, start anew."""
    configure_logging("INFO", "auto")
    handover = None
    try:
        handover = takeover.receive()
        settings = restore_settings(handover.settings)
    except Exception as error:  # noqa: BLE001  whatever it is, it must not end the service
        takeover.start_anew(handover, error)
    configure_logging(settings.soniqd.log_level, settings.soniqd.log_format)
    return asyncio.run(_run(settings, None if handover.config is None else Path(handover.config), handover))


def check(settings: DaemonSettings) -> Findings:
    """Do what ``soniqd -t`` does: import the jobs modules, and connect to the database."""
    return asyncio.run(check_all(settings))


def check_self(config: Path) -> int:
    """Tell a running daemon whether this release could go on with its state; returns the exit code."""
    return answer_questions(lambda state: judge(state, config), version=__version__)


async def _run(
    settings: DaemonSettings, config: Path | None, handover: Handover | None, early: StartedServer | None = None
) -> int:
    become_subreaper()
    setproctitle(f"soniqd: master {config or ''}".rstrip())
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(initializer=_leave_signals_to_the_main_thread))
    facts = handover.roster if handover else None
    master = Master(settings, config, notifier=Notifier.from_environ(), facts=facts, early=early)
    master.ring.attach()
    master.soft_nofile = handover.soft_nofile if handover else raise_descriptor_limit()
    upgrade = Upgrade(master, server=lambda: server)
    commands = Commands(master, upgrade)

    async def handle(request: Request, peer: Peer) -> dict[str, Any] | Stream:
        del peer
        return await commands.answer(request.command, dict(request.params))

    server = ControlServer(
        settings.soniqd.socket,
        handle,
        group=settings.soniqd.socket_group,
        listen_socket=None if handover else passed_socket(settings.soniqd.socket, os.environ),
        handed_over=handover.control if handover else None,
    )
    try:
        await server.start()
        if handover:
            takeover.resume(master, handover)
    except Exception as error:
        if handover:
            takeover.start_anew(handover, error)
        raise
    Signals(master, state=commands.state, upgrade=upgrade.on_signal).install()
    if handover:
        _announce(master, upgrade, server, handover)
    try:
        return await master.run()
    finally:
        await server.close()
        master.ring.detach()


def _announce(master: Master, upgrade: Upgrade, server: ControlServer, handover: Handover) -> None:
    now_s, children = time.monotonic(), len(master.processes)
    upgrade.last = UpgradeResult(__version__, handover.version, round(now_s - handover.began_s, 3), None)
    gap_ms = 1000 * (now_s - handover.left_s)
    emit(
        catalogue.UPGRADE_DONE,
        version=__version__,
        before=handover.version,
        children=children,
        pid=handover.pid,
        gap_ms=gap_ms,
    )
    server.resume(
        {
            "version": __version__,
            "from_version": handover.version,
            "pid": handover.pid,
            "children": children,
            "duration_s": upgrade.last.duration_s,
            "gap_s": round(gap_ms / 1000, 3),
        }
    )
    master.service.look()


def _leave_signals_to_the_main_thread() -> None:
    """A signal that came to another thread while the main one keeps it waiting would end with this image."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
