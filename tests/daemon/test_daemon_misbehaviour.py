"""Jobs modules and groups that misbehave: each has an outcome that is told, and costs nobody else anything."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from soniqd import Soniq
from tests.support.daemon import JOBS, Daemon
from tests.support.processes import Process

THREADED = "import threading\nthreading.Thread(target=threading.Event().wait, name='poller', daemon=True).start()\n"
CONNECTED = """
import os, socket
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
"""
ASLEEP = "import time\ntime.sleep(600)\n"
BUSY_IN_C = "sum(range(10**15))\n"
CRASHES = {"name": "bad", "queues": ["bad"], "rlimits": {"as": "1MB"}}


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def fork_servers(daemon: Daemon) -> list[Process]:
    return [process for process in daemon.processes() if "fork server" in process.command]


def allow_two_seconds(daemon: Daemon) -> None:
    """For importing."""
    daemon.config.write_text(daemon.config.read_text().replace("[jobs]", '[jobs]\nimport_timeout = "2s"'))


async def runs_a_job(daemon: Daemon, app: Soniq, out: Path) -> bool:
    """Enqueue one and wait for it."""
    before = len(lines(out))
    await app.enqueue("append", args={"path": str(out)})
    await daemon.eventually(lambda: len(lines(out)) > before)
    return True


# -- threads started at import


async def test_threads_of_an_import_are_named_and_each_worker_has_its_own(tmp_path, database_url, app: Soniq):
    jobs = (
        THREADED
        + JOBS
        + """

@app.job(name="threads")
async def threads(path: str):
    names = sorted(thread.name for thread in threading.enumerate())
    open(path, "a").write(f"{os.getpid()} {'poller' in names}\\n")
"""
    )
    out = tmp_path / "out"
    async with Daemon(tmp_path, jobs=jobs, database_url=database_url, workers={"processes": 2}) as daemon:
        said = await daemon.log_event("generation_has_threads")
        assert "poller" in said["threads"]
        await app.enqueue("threads", args={"path": str(out)})
        await daemon.eventually(lambda: lines(out))
        assert lines(out)[0].endswith("True")
        first = await daemon.pid_of("default/1")
        mark = daemon.log.mark()
        await daemon.kill("default/1")
        await daemon.log_event("child_ready", since=mark, slot="default/1")
        assert await daemon.pid_of("default/1") != first
        assert await runs_a_job(daemon, app, out)


# -- sockets opened at import


async def test_sockets_of_an_import_are_named_and_jobs_run_all_the_same(tmp_path, database_url, app: Soniq):
    async with Daemon(tmp_path, jobs=CONNECTED + JOBS, database_url=database_url) as daemon:
        said = await daemon.log_event("descriptors_shared")
        assert said["descriptors"].count("socket:") == 2
        assert await runs_a_job(daemon, app, tmp_path / "out")


async def test_a_module_that_opens_none_is_not_complained_of(tmp_path):
    async with Daemon(tmp_path) as daemon:
        assert daemon.log.find("descriptors_shared") == []


# -- a fork server that dies


async def test_a_fork_server_that_dies_over_a_request_costs_only_time(tmp_path, database_url, app: Soniq):
    async with Daemon(tmp_path, database_url=database_url, workers={"processes": 2}) as daemon:
        other = await daemon.pid_of("default/2")
        [server] = fork_servers(daemon)
        os.kill(server.pid, signal.SIGSTOP)
        mark = daemon.log.mark()
        await daemon.kill("default/1")
        await daemon.log_event("child_died", since=mark)
        server.kill()
        await daemon.log_event("fork_server_lost", since=mark)
        assert await runs_a_job(daemon, app, tmp_path / "out")  # by the other one
        await daemon.log_event("child_ready", since=mark, slot="default/1", timeout_s=30)
        assert await daemon.pid_of("default/2") == other


async def test_a_fork_server_that_dies_again_and_again_is_started_again_each_time(tmp_path):
    async with Daemon(tmp_path) as daemon:
        worker = await daemon.pid_of("default/1")
        for _ in range(3):
            mark = daemon.log.mark()
            [server] = fork_servers(daemon)
            server.kill()
            await daemon.log_event("fork_server_lost", since=mark)
            await daemon.log_event("generation_booted", since=mark, timeout_s=30)
        assert await daemon.pid_of("default/1") == worker
        assert (await daemon.status())["state"] == "running"


# -- a fork server that hangs while importing


@pytest.mark.parametrize(("source", "told"), [(ASLEEP, "not done after 2 s"), ("while True: pass\n", "test_jobs.py:1")])
async def test_an_import_that_hangs_at_the_start_ends_the_daemon_with_its_place(tmp_path, source, told):
    daemon = Daemon(tmp_path, jobs=source)
    allow_two_seconds(daemon)
    daemon.start()
    assert await daemon.exit_code() == 70  # not 78, after which a service manager would not try again
    failed = await daemon.log_event("boot_failed")
    assert told in failed["reason"]
    assert "test_jobs.py" in (await daemon.log_event("boot_traceback"))["traceback"]


async def test_an_import_that_hangs_at_a_reload_takes_nothing_away(tmp_path, database_url, app: Soniq):
    async with Daemon(tmp_path, database_url=database_url) as daemon:
        allow_two_seconds(daemon)
        await daemon.soniqctl("reload")
        worker = await daemon.pid_of("default/1")
        daemon.write_jobs(JOBS + ASLEEP)
        with pytest.raises(AssertionError, match=r"cannot import test_jobs: not done after 2 s \(.*test_jobs.py:\d+\)"):
            await daemon.soniqctl("reload")
        assert await daemon.pid_of("default/1") == worker
        assert await runs_a_job(daemon, app, tmp_path / "out")
        daemon.write_jobs(JOBS + "\n")
        await daemon.soniqctl("reload")
        assert await daemon.pid_of("default/1") != worker
        await daemon.eventually(lambda: len(fork_servers(daemon)) == 1)


async def test_an_import_that_hangs_in_c_code_is_killed(tmp_path, database_url, app: Soniq):
    async with Daemon(tmp_path, database_url=database_url) as daemon:
        allow_two_seconds(daemon)
        await daemon.soniqctl("reload")
        daemon.write_jobs(JOBS + BUSY_IN_C)
        await daemon.soniqctl("reload", expect=1)
        await daemon.log_event("fork_server_hung")
        assert await runs_a_job(daemon, app, tmp_path / "out")
        await daemon.eventually(lambda: len(fork_servers(daemon)) == 1)


# -- a group that crashes again and again


async def test_a_crash_looping_group_costs_the_others_nothing_paused_or_not(tmp_path, database_url, app: Soniq):
    groups = [{"name": "good", "queues": ["default"]}, CRASHES]
    daemon = Daemon(tmp_path, database_url=database_url, workers=groups)
    await daemon.soniqctl("setup")
    daemon.start()
    try:
        await daemon.log_event("crash_loop", timeout_s=40)
        good = await daemon.child("good/1")
        assert (good["state"], good["restarts"]) == ("running", 0)
        assert await runs_a_job(daemon, app, tmp_path / "out")
        await daemon.soniqctl("drain", "bad")
        assert await runs_a_job(daemon, app, tmp_path / "out")
        assert json.loads(await daemon.soniqctl("--json", "restart", "good"))["replaced"] == 1
        assert await runs_a_job(daemon, app, tmp_path / "out")
    finally:
        await daemon.stop()
        await daemon.gone()


async def test_a_crash_looping_group_is_well_after_a_reload_with_what_it_lacked(tmp_path, database_url, app: Soniq):
    good = {"name": "good", "queues": ["default"]}
    daemon = Daemon(tmp_path, database_url=database_url, workers=[good, CRASHES])
    await daemon.soniqctl("setup")
    daemon.start()
    try:
        await daemon.log_event("crash_loop", timeout_s=40)
        worker = await daemon.pid_of("good/1")
        daemon.write_config(workers=[good, {"name": "bad", "queues": ["bad"]}])
        await daemon.soniqctl("reload")
        await daemon.ready()
        assert await daemon.pid_of("good/1") == worker
    finally:
        await daemon.stop()
        await daemon.gone()


async def test_new_code_reaches_the_other_groups_though_one_is_down_before_and_after(
    tmp_path, database_url, app: Soniq
):
    groups = [{"name": "good", "queues": ["default"]}, CRASHES]
    daemon = Daemon(tmp_path, database_url=database_url, workers=groups)
    await daemon.soniqctl("setup")
    daemon.start()
    try:
        await daemon.log_event("crash_loop", timeout_s=40)
        worker = await daemon.pid_of("good/1")
        daemon.write_jobs(JOBS + "\n# newer\n")
        await daemon.soniqctl("reload")
        assert await daemon.pid_of("good/1") != worker
        assert await runs_a_job(daemon, app, tmp_path / "out")
    finally:
        await daemon.stop()
        await daemon.gone()
