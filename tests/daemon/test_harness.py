"""The harness itself: it must notice what it is there to notice."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from soniqd import Soniq
from tests.support.daemon import Daemon
from tests.support.processes import Process, descendants, find_process
from tests.support.waiting import eventually_sync

DETACHED = """
import subprocess
from soniqd import Soniq

app = Soniq()


@app.job(name="detach")
async def detach(path):
    process = subprocess.Popen(["sleep", "600"], start_new_session=True, stdin=subprocess.DEVNULL)
    open(path, "w").write(str(process.pid))
"""


async def test_what_outlives_the_daemon_fails_the_test_and_is_ended(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    async def leave_something_behind() -> None:
        async with Daemon(tmp_path, jobs=DETACHED) as daemon:
            daemon.patience_s = 8
            async with Soniq(database_url=daemon.database_url, enqueue_validation="none") as app:
                await app.enqueue("detach", args={"path": str(pid_file)})
            await daemon.eventually(lambda: pid_file.exists() and pid_file.read_text())
            daemon.kill_master()

    with pytest.raises(AssertionError, match="every process of the daemon is gone"):
        await leave_something_behind()
    left = find_process(int(pid_file.read_text()))
    assert left is None or not left.alive


async def test_a_failure_ends_everything_and_shows_the_log(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)

    async def fail() -> None:
        async with daemon:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        await fail()
    assert "daemon_started" in caught.value.__notes__[0]
    assert daemon.processes() == []


async def test_an_event_that_does_not_come_shows_the_log(tmp_path: Path) -> None:
    async with Daemon(tmp_path) as daemon:
        with pytest.raises(AssertionError, match="daemon_started"):
            await daemon.log_event("no_such_event", timeout_s=0.05)


def _two(found: list[Process]) -> list[Process] | None:
    """Return them once they are what is to be found."""
    return found if len(found) == 2 and found[1].command == "sleep 60" else None


def test_descendants_are_found_down_to_grandchildren() -> None:
    program = textwrap.dedent("""
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '60'])"])
        sys.stdin.read()
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as parent:
        found = eventually_sync(lambda: _two(descendants(parent.pid)))
        assert found
        for process in reversed(found):
            process.kill()
        parent.communicate()
    eventually_sync(lambda: not any(process.alive for process in found))  # nobody here reaps the grandchild


def test_a_process_that_is_not_the_one_that_was_seen_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        seen = find_process(process.pid)
        assert seen is not None
        replace(seen, start_ticks=seen.start_ticks - 1).kill()
        assert process.poll() is None
        seen.kill()
