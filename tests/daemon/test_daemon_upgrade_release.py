"""The soniqd on disk is another one: newer, older, broken, slow; and what happens while it starts."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from soniqd import Soniq
from soniqd.control.fork import PROTOCOL
from soniqd.version import __version__
from tests.daemon.test_daemon_upgrade import PATIENT, lines, pids
from tests.support.daemon import Daemon
from tests.support.installation import Installation

HOLD = """
import time as _time, pathlib as _pathlib
_pathlib.Path("held").touch()
while not _pathlib.Path("go").exists():
    _time.sleep(0.005)
"""
"""The next image waits, at its very beginning, until the test lets it go."""


@pytest.fixture
def installation(tmp_path) -> Installation:
    return Installation(tmp_path / "site")


class Held:
    """A daemon whose next image has begun and waits."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    async def begin(self, installation: Installation) -> None:
        installation.on_takeover(HOLD)
        self.daemon.signal(signal.SIGUSR2)
        await self.daemon.eventually((self.daemon.folder / "held").exists)

    def let_go(self) -> None:
        (self.daemon.folder / "go").touch()


def daemon_of(installation: Installation, tmp_path: Path, **options: Any) -> Daemon:
    return Daemon(tmp_path, environ=installation.environ, **options)


async def test_the_new_release_runs_and_children_and_jobs_go_on(tmp_path, installation, database_url, app: Soniq):
    out, go = tmp_path / "out", tmp_path / "end"
    async with daemon_of(installation, tmp_path, jobs=PATIENT, database_url=database_url) as daemon:
        before = pids(await daemon.status())
        await app.enqueue("wait_for", args={"out": str(out), "until": str(go)})
        await daemon.eventually(lambda: lines(out))
        installation.set_version("99.1")
        answer = await daemon.soniqctl_json("upgrade")
        assert (answer["from_version"], answer["version"]) == (__version__, "99.1")
        status = await daemon.status()
        assert status["version"] == "99.1"
        assert pids(status) == before
        go.touch()
        await daemon.eventually(lambda: len(lines(out)) == 2)


async def test_a_fork_server_of_the_same_protocol_makes_children_for_the_new_release(tmp_path, installation):
    async with daemon_of(installation, tmp_path) as daemon:
        installation.set_version("99.1")
        await daemon.soniqctl("upgrade")
        mark = daemon.log.mark()
        await daemon.kill("default/1")
        await daemon.log_event("child_ready", since=mark, slot="default/1")
        assert not daemon.log.find("generation_booted", since=mark)


async def test_a_fork_server_of_another_protocol_is_started_anew_and_its_children_go_on(
    tmp_path, installation, database_url, app: Soniq
):
    out, go = tmp_path / "out", tmp_path / "end"
    async with daemon_of(installation, tmp_path, jobs=PATIENT, database_url=database_url) as daemon:
        before = pids(await daemon.status())
        await app.enqueue("wait_for", args={"out": str(out), "until": str(go)})
        await daemon.eventually(lambda: lines(out))
        installation.set_version("99.1")
        installation.replace("control/fork.py", f"PROTOCOL = {PROTOCOL}\n", "PROTOCOL = 999\n")
        mark = daemon.log.mark()
        await daemon.soniqctl("upgrade")
        await daemon.log_event("fork_server_outdated", since=mark, ours=999)
        await daemon.log_event("generation_booted", since=mark, generation=1)
        assert pids(await daemon.status()) == before
        go.touch()
        await daemon.eventually(lambda: len(lines(out)) == 2)
        await daemon.kill("default/1")
        await daemon.log_event("child_ready", since=mark, slot="default/1")


async def test_a_release_that_the_children_do_not_understand_refuses_and_says_what_to_do(tmp_path, installation):
    async with daemon_of(installation, tmp_path) as daemon:
        before = pids(await daemon.status())
        installation.set_version("99.1")
        installation.replace("control/link.py", "PROTOCOL = 1\n", "PROTOCOL = 2\n")
        error = await daemon.refusal("upgrade")
        assert "link protocol 1" in error
        assert "restart soniqd" in error
        status = await daemon.status()
        assert pids(status) == before
        assert status["version"] == __version__


async def test_a_state_of_another_format_is_refused(tmp_path, installation):
    async with daemon_of(installation, tmp_path) as daemon:
        installation.set_version("99.1")
        installation.replace("supervisor/handover.py", "FORMAT = 1\n", "FORMAT = 7\n")
        assert "in format 1, soniqd 99.1 reads 7" in await daemon.refusal("upgrade")


async def test_a_fact_that_the_release_on_disk_does_not_know_is_refused(tmp_path, installation):
    """As after going back to an older one: what it does not know would be lost."""
    async with daemon_of(installation, tmp_path) as daemon:
        installation.set_version("0.0.1")
        installation.replace("supervisor/handover.py", "    upgrades: int\n", "")
        error = await daemon.refusal("upgrade")
        assert "soniqd 0.0.1 cannot take over" in error
        assert "upgrades" in error
        assert (await daemon.status())["upgrades"] == 0


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("cli/soniqd.py", "this is no Python", "SyntaxError"),
        ("supervisor/takeover.py", "import no_such_module_anywhere", "no_such_module_anywhere"),
        ("version.py", "import os as _os; _os._exit(9)", "exit code 9"),
        ("version.py", "import os as _os, signal as _s; _os.kill(_os.getpid(), _s.SIGSEGV)", "signal 11"),
    ],
)
async def test_a_broken_release_is_told_and_the_running_one_goes_on(tmp_path, installation, file, text, told):
    daemon = daemon_of(installation, tmp_path)
    async with daemon:
        before = pids(await daemon.status())
        soniqctl = Daemon(tmp_path)  # which is not broken
        installation.append(file, text)
        assert told in await soniqctl.refusal("upgrade")
        await daemon.log_event("upgrade_failed")
        assert pids(await daemon.status()) == before
        mark = daemon.log.mark()
        await daemon.kill("default/1")
        await daemon.log_event("child_ready", since=mark, slot="default/1")


async def test_a_release_that_hangs_at_its_start_is_given_up(tmp_path, installation):
    installation.replace("supervisor/selfcheck.py", "FIRST_ANSWER_TIMEOUT_S = 60.0\n", "FIRST_ANSWER_TIMEOUT_S = 0.5\n")
    async with daemon_of(installation, tmp_path) as daemon:
        installation.append(
            "version.py", "import os, time\nif 'SONIQD_SELF_CHECK' in os.environ:\n    time.sleep(3600)"
        )
        assert "has not answered within 0.5 s" in await daemon.refusal("upgrade")
        children = len(pids(await daemon.status()))
        await daemon.eventually(lambda: len(daemon.processes()) == children + 1, message="the check is gone")


def linked_python(folder: Path) -> Path:
    python = folder / "python3"
    python.symlink_to(Path(sys.executable).resolve())
    return python


async def test_an_interpreter_that_is_gone_is_told(tmp_path):
    """The venv was removed under a running daemon."""
    python = linked_python(tmp_path)
    path = os.pathsep.join(folder for folder in sys.path if folder)
    async with Daemon(tmp_path, program=(str(python), "-m", "soniqd"), environ={"PYTHONPATH": path}) as daemon:
        python.unlink()
        assert f"cannot run {python}: No such file" in await daemon.refusal("upgrade")


async def test_a_term_that_comes_while_the_image_changes_stops_the_new_one(tmp_path, installation):
    async with daemon_of(installation, tmp_path) as daemon:
        held = Held(daemon)
        await held.begin(installation)
        daemon.signal(signal.SIGTERM)
        held.let_go()
        assert await daemon.exit_code() == 0
        await daemon.log_event("upgrade_done")
        await daemon.log_event("daemon_stopping", reason="SIGTERM")
        await daemon.gone()


async def test_a_hang_up_that_comes_while_the_image_changes_reloads(tmp_path, installation):
    async with daemon_of(installation, tmp_path) as daemon:
        held = Held(daemon)
        await held.begin(installation)
        daemon.signal(signal.SIGHUP)
        held.let_go()
        await daemon.log_event("reload_done")


async def test_a_worker_that_is_killed_while_the_image_changes_is_noticed_and_its_jobs_run_again(
    tmp_path, installation, database_url, app: Soniq
):
    out, go = tmp_path / "out", tmp_path / "end"
    async with daemon_of(installation, tmp_path, jobs=PATIENT, database_url=database_url) as daemon:
        await app.enqueue("wait_for", args={"out": str(out), "until": str(go)})
        await daemon.eventually(lambda: lines(out))
        worker = await daemon.pid_of("default/1")
        held = Held(daemon)
        await held.begin(installation)
        os.kill(worker, signal.SIGKILL)
        held.let_go()
        await daemon.log_event("child_died", pid=worker)
        await daemon.log_event("jobs_released", requeued=1, cause="crash")
        go.touch()
        await daemon.eventually(lambda: len(lines(out)) == 3)


async def test_a_fork_server_that_is_killed_while_the_image_changes_is_started_again(tmp_path, installation):
    async with daemon_of(installation, tmp_path) as daemon:
        children = set(pids(await daemon.status()).values())
        held = Held(daemon)
        await held.begin(installation)
        (server,) = (process for process in daemon.processes() if "fork server" in process.command)
        server.kill()
        held.let_go()
        await daemon.log_event("fork_server_lost")
        await daemon.eventually(lambda: len(daemon.log.find("generation_booted")) == 2)
        assert set(pids(await daemon.status()).values()) == children


async def test_who_connects_while_the_image_changes_is_answered_by_the_new_one(tmp_path, installation):
    async with daemon_of(installation, tmp_path) as daemon:
        held = Held(daemon)
        await held.begin(installation)
        status = asyncio.ensure_future(daemon.status())
        held.let_go()
        assert (await status)["upgrades"] == 1


async def test_what_a_child_says_while_the_image_changes_is_heard(tmp_path, installation, database_url, app: Soniq):
    out, go = tmp_path / "out", tmp_path / "end"
    async with daemon_of(installation, tmp_path, jobs=PATIENT, database_url=database_url) as daemon:
        await app.enqueue("wait_for", args={"out": str(out), "until": str(go)})
        await daemon.eventually(lambda: lines(out))
        held = Held(daemon)
        await held.begin(installation)
        go.touch()
        await daemon.eventually(lambda: len(lines(out)) == 2)
        held.let_go()

        async def told() -> bool:
            child = await daemon.child("default/1")
            return (child["done"], child["in_flight"]) == (1, 0)

        await daemon.eventually(told)


BROKEN_TAKEOVER = (
    "supervisor/takeover.py",
    "    master.upgrades = handover.upgrades + 1\n",
    "    raise RuntimeError('on purpose')\n",
)
PATIENT_DRAIN = {"soniqd": {"drain_timeout": "15m"}}


async def test_an_image_that_fails_in_spite_of_its_check_starts_anew_and_loses_no_job(
    tmp_path, installation, database_url, app: Soniq
):
    out, go = tmp_path / "out", tmp_path / "end"
    daemon = daemon_of(installation, tmp_path, jobs=PATIENT, database_url=database_url, **PATIENT_DRAIN)
    async with daemon:
        await app.enqueue("wait_for", args={"out": str(out), "until": str(go)})
        await daemon.eventually(lambda: lines(out))
        before = pids(await daemon.status())
        installation.replace(*BROKEN_TAKEOVER)
        error = await daemon.refusal("upgrade")
        assert "starts anew" in error
        assert "on purpose" in error
        await daemon.log_event("takeover_failed")
        await daemon.ready()
        status = await daemon.status()
        assert status["pid"] == daemon.pid
        assert status["upgrades"] == 0
        assert set(pids(status).values()).isdisjoint(before.values())
        go.touch()
        await daemon.eventually(lambda: len(lines(out)) == 2)
        assert lines(out) == [f"start {before['default/1']}", f"end {before['default/1']}"]
        await daemon.eventually(lambda: len(daemon.processes()) == len(before) + 1, timeout_s=20)


async def test_jobs_of_a_child_that_dies_after_such_a_start_run_again(tmp_path, installation, database_url, app: Soniq):
    """It was a child of this very process, in an image that is gone: nobody else would release what it held."""
    out, go = tmp_path / "out", tmp_path / "end"
    daemon = daemon_of(installation, tmp_path, jobs=PATIENT, database_url=database_url, **PATIENT_DRAIN)
    async with daemon:
        await app.enqueue("wait_for", args={"out": str(out), "until": str(go)})
        await daemon.eventually(lambda: lines(out))
        worker = await daemon.pid_of("default/1")
        installation.replace(*BROKEN_TAKEOVER)
        await daemon.refusal("upgrade")
        await daemon.ready()
        os.kill(worker, signal.SIGKILL)
        await daemon.log_event("leftovers_released", requeued=1)
        go.touch()
        await daemon.eventually(lambda: len(lines(out)) == 3)
        assert lines(out)[1] != f"start {worker}"


async def test_a_long_job_survives_three_reloads_and_an_upgrade_without_being_run_again(
    tmp_path, installation, database_url, app: Soniq
):
    """A job of ten minutes, scaled in time: its end comes after everything else."""
    out, go = tmp_path / "out", tmp_path / "end"
    daemon = daemon_of(installation, tmp_path, jobs=PATIENT, database_url=database_url, **PATIENT_DRAIN)
    async with daemon:
        worker = await daemon.pid_of("default/1")
        job_id = await app.enqueue("wait_for", args={"out": str(out), "until": str(go)})
        await daemon.eventually(lambda: lines(out))
        for number in range(4):
            if number == 2:
                installation.set_version("99.1")
                await daemon.soniqctl("upgrade")
                continue
            daemon.write_jobs(f"{PATIENT}\nNUMBER = {number}\n")
            await daemon.soniqctl("reload")
        status = await daemon.status()
        assert (status["generation"], status["upgrades"]) == (4, 1)
        (oldest,) = (child for child in status["children"] if child["pid"] == worker)
        assert (oldest["state"], oldest["in_flight"], oldest["generation"]) == ("draining", 1, 1)
        assert lines(out) == [f"start {worker}"]
        go.touch()
        await daemon.eventually(lambda: lines(out) == [f"start {worker}", f"end {worker}"])
        await daemon.log_event("child_left", pid=worker)
        job = await app.get_job(job_id)
        assert job is not None
        assert (job["status"], job["attempts"]) == ("done", 1)
