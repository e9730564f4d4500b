"""Deploys: reload, pause and resume of a running daemon."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from soniqd import Soniq
from tests.support.daemon import Daemon

VERSIONED = """
import asyncio, os
from soniqd import Soniq

app = Soniq()
VERSION = "{version}"


@app.job(name="version")
async def version(path: str, until: str = "/"):
    with open(path, "a") as file:
        file.write(f"start {{VERSION}}\\n")
    while not os.path.exists(until):
        await asyncio.sleep(0.01)
    with open(path, "a") as file:
        file.write(f"end {{VERSION}}\\n")
"""


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


async def test_hup_runs_new_jobs_with_the_code_now_on_disk(tmp_path, database_url, app: Soniq):
    out = tmp_path / "out"
    v1, v2 = VERSIONED.format(version="one"), VERSIONED.format(version="two")
    async with Daemon(tmp_path, jobs=v1, database_url=database_url, workers={"processes": 2}) as daemon:
        before = {child["pid"] for child in (await daemon.status())["children"]}
        daemon.write_jobs(v2)
        daemon.signal(signal.SIGHUP)
        await daemon.log_event("reload_done")
        await app.enqueue("version", args={"path": str(out)})
        await daemon.eventually(lambda: lines(out) == ["start two", "end two"])
        status = await daemon.status()
        assert status["generation"] == 2
        assert before.isdisjoint(child["pid"] for child in status["children"] if child["generation"] == 2)


async def test_a_running_job_finishes_under_its_old_code_while_new_jobs_run_under_the_new(
    tmp_path, database_url, app: Soniq
):
    slow, quick = tmp_path / "slow", tmp_path / "quick"
    async with Daemon(tmp_path, jobs=VERSIONED.format(version="one"), database_url=database_url) as daemon:
        await app.enqueue("version", args={"path": str(slow), "until": str(tmp_path / "go")})
        await daemon.eventually(lambda: lines(slow))
        daemon.write_jobs(VERSIONED.format(version="two"))
        await daemon.soniqctl("reload")
        await app.enqueue("version", args={"path": str(quick)})
        await daemon.eventually(lambda: len(lines(quick)) == 2)
        assert lines(slow) == ["start one"]
        (tmp_path / "go").touch()
        await daemon.eventually(lambda: len(lines(slow)) == 2)
        assert lines(slow) == ["start one", "end one"]
        assert lines(quick) == ["start two", "end two"]


async def test_a_generation_that_cannot_import_fails_the_reload_loudly_and_leaves_the_old_one_running(
    tmp_path, database_url, app: Soniq
):
    out = tmp_path / "out"
    async with Daemon(tmp_path, jobs=VERSIONED.format(version="one"), database_url=database_url) as daemon:
        worker = await daemon.pid_of("default/1")
        daemon.write_jobs("import no_such_module_anywhere\n")
        message = await daemon.soniqctl("reload", expect=1)
        await daemon.log_event("reload_failed")
        assert await daemon.pid_of("default/1") == worker
        await app.enqueue("version", args={"path": str(out)})
        await daemon.eventually(lambda: lines(out) == ["start one", "end one"])
        status = await daemon.status()
        assert status["generation"] == 1
        assert "no_such_module_anywhere" in status["last_reload"]["error"]
        del message


async def test_a_worker_that_crashes_after_a_failed_reload_comes_back_with_the_old_code(
    tmp_path, database_url, app: Soniq
):
    out = tmp_path / "out"
    async with Daemon(tmp_path, jobs=VERSIONED.format(version="one"), database_url=database_url) as daemon:
        daemon.write_jobs("raise RuntimeError('broken deploy')\n")
        await daemon.soniqctl("reload", expect=1)
        mark = daemon.log.mark()
        await daemon.kill("default/1")
        await daemon.log_event("child_ready", since=mark, slot="default/1")
        await app.enqueue("version", args={"path": str(out)})
        await daemon.eventually(lambda: lines(out) == ["start one", "end one"])


async def test_a_configuration_with_problems_fails_the_reload_and_names_each(tmp_path):
    async with Daemon(tmp_path) as daemon:
        daemon.write_config(workers={"processes": "many", "concurency": 3})
        await daemon.soniqctl("reload", expect=1)
        error = (await daemon.status())["last_reload"]["error"]
        assert "processes" in error
        assert "concurency" in error


async def test_a_changed_database_is_named_as_needing_a_restart(tmp_path):
    async with Daemon(tmp_path) as daemon:
        daemon.write_config(database={"url": f"sqlite:///{tmp_path / 'other.db'}"})
        await daemon.soniqctl("reload", expect=1)
        assert "[database] url" in (await daemon.status())["last_reload"]["error"]


async def test_reload_applies_a_changed_number_of_processes_and_groups(tmp_path):
    async with Daemon(tmp_path, workers={"processes": 3}) as daemon:
        daemon.write_config(workers=[{"processes": 1}, {"name": "mail", "processes": 2, "queues": ["mail"]}])
        await daemon.soniqctl("reload")

        async def slots() -> bool:
            children = (await daemon.status())["children"]
            return sorted(c["slot"] for c in children) == ["default/1", "mail/1", "mail/2", "scheduler/1"]

        await daemon.eventually(slots)


async def test_drain_stops_claiming_and_resume_goes_on(tmp_path, database_url, app: Soniq):
    out = tmp_path / "out"
    async with Daemon(tmp_path, jobs=VERSIONED.format(version="one"), database_url=database_url) as daemon:
        await app.enqueue("version", args={"path": str(out), "until": str(tmp_path / "go")})
        await daemon.eventually(lambda: lines(out))
        await daemon.eventually(lambda: _in_flight(daemon))
        assert (await daemon.request("drain"))["in_flight"] == 1
        (tmp_path / "go").touch()
        await daemon.soniqctl("drain", "--wait")
        assert len(lines(out)) == 2
        job_id = await app.enqueue("version", args={"path": str(out)})
        await daemon.kill("default/1")
        await daemon.eventually(lambda: _paused(daemon))
        job = await app.get_job(job_id)
        assert job is not None
        assert job["status"] == "queued"
        await daemon.soniqctl("resume")
        await daemon.eventually(lambda: len(lines(out)) == 4)


async def _in_flight(daemon: Daemon) -> bool:
    return bool((await daemon.child("default/1"))["in_flight"])


async def _paused(daemon: Daemon) -> bool:
    child = await daemon.child("default/1")
    return bool(child["state"] == "paused" and child["restarts"] == 1)


async def test_draining_a_group_that_does_not_exist_names_those_that_do(tmp_path):
    async with Daemon(tmp_path) as daemon:
        await daemon.soniqctl("drain", "nobody", expect=1)


async def test_modules_that_start_threads_get_a_fresh_interpreter_each(tmp_path, database_url, app: Soniq):
    threaded = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    out = tmp_path / "out"
    jobs = threaded + VERSIONED.format(version="threaded")
    async with Daemon(tmp_path, jobs=jobs, database_url=database_url) as daemon:
        await daemon.log_event("generation_has_threads")
        await app.enqueue("version", args={"path": str(out)})
        await daemon.eventually(lambda: len(lines(out)) == 2)
        mark = daemon.log.mark()
        await daemon.kill("default/1")
        await daemon.log_event("child_ready", since=mark, slot="default/1")


async def test_signals_that_mean_nothing_here_do_not_end_the_master(tmp_path):
    async with Daemon(tmp_path) as daemon:
        for number in (signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE):
            os.kill(daemon.pid, number)
        assert (await daemon.status())["state"] == "running"


async def test_a_second_hang_up_during_a_reload_applies_the_newest_code(tmp_path):
    out, go = tmp_path / "out", tmp_path / "go"
    slow_import = f"import os, time\nwhile not os.path.exists({str(go)!r}):\n    time.sleep(0.01)\n"
    async with Daemon(tmp_path, jobs=VERSIONED.format(version="one")) as daemon:
        daemon.write_jobs(slow_import + VERSIONED.format(version="two"))
        daemon.signal(signal.SIGHUP)
        await daemon.log_event("reload_started")
        daemon.write_jobs(VERSIONED.format(version="three"))
        daemon.signal(signal.SIGHUP)
        await daemon.log_event("reload_failed")
        go.touch()
        await daemon.log_event("reload_done", generation=3)
        await daemon.soniqctl("enqueue", "version", "--args", json.dumps({"path": str(out)}))
        await daemon.eventually(lambda: lines(out) == ["start three", "end three"])
