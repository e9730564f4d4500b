"""A fork server that stands still."""

from __future__ import annotations

import os
import signal

from tests.support.daemon import Daemon
from tests.support.processes import Process


def fork_server(daemon: Daemon) -> Process:
    return next(process for process in daemon.processes() if "fork server" in process.command)


async def test_a_fork_server_that_answers_no_request_is_replaced(tmp_path):
    async with Daemon(tmp_path) as daemon:
        stopped = fork_server(daemon)
        os.kill(stopped.pid, signal.SIGSTOP)
        mark = daemon.log.mark()
        await daemon.kill("default/1")
        await daemon.log_event("fork_server_hung", since=mark, timeout_s=30)
        await daemon.log_event("child_ready", since=mark, slot="default/1", timeout_s=30)
        assert not stopped.alive


async def test_a_reload_ends_the_old_fork_server_even_if_it_stands_still(tmp_path):
    async with Daemon(tmp_path) as daemon:
        stopped = fork_server(daemon)
        os.kill(stopped.pid, signal.SIGSTOP)
        await daemon.request("reload")
        await daemon.eventually(lambda: not stopped.alive)


async def test_a_daemon_that_leaves_ends_its_fork_server_even_if_it_stands_still(tmp_path):
    async with Daemon(tmp_path) as daemon:
        os.kill(fork_server(daemon).pid, signal.SIGSTOP)
        await daemon.stop()
        assert daemon.processes() == []
