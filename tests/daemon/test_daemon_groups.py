"""Groups: what their processes are, how many there are, and fresh ones on demand."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from soniqd import Soniq
from tests.support.daemon import Daemon

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

JOBS = """
import asyncio, json, os, resource, time
from soniqd import Soniq

app = Soniq()


@app.job(name="tell")
async def tell():
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    return {
        "pid": os.getpid(),
        "place": os.environ.get("PLACE"),
        "home": os.environ.get("HOME"),
        "hour": time.strftime("%H", time.gmtime(0)), "local": time.strftime("%H", time.localtime(0)),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "cpus": sorted(os.sched_getaffinity(0)),
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
        "umask": status["Umask"].strip(),
        "ids": [os.getresuid(), os.getresgid()],
    }


@app.job(name="wait_for")
async def wait_for(out: str, until: str):
    with open(out, "a") as file:
        file.write(f"start {os.getpid()}\\n")
    while not os.path.exists(until):
        await asyncio.sleep(0.01)
    with open(out, "a") as file:
        file.write(f"end {os.getpid()}\\n")


@app.job(name="tidy_up")
async def tidy_up(out: str, seconds: float):
    with open(out, "a") as file:
        file.write("start\\n")
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        await asyncio.sleep(seconds)
        with open(out, "a") as file:
            file.write("tidy\\n")
        raise
"""
THREADED = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def owner(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


async def pids(daemon: Daemon, group: str) -> dict[str, int]:
    """Of the children that fill the group's places."""
    children = (await daemon.status())["children"]
    return {c["slot"]: c["pid"] for c in children if c["group"] == group and c["state"] in ("running", "paused")}


async def has(daemon: Daemon, group: str, processes: int) -> bool:
    children = [child for child in (await daemon.status())["children"] if child["group"] == group]
    return len(children) == processes and all(child["state"] == "running" for child in children)


async def result_of(daemon: Daemon, app: Soniq, job_id: str) -> Any:
    async def done() -> Any:
        job = await app.get_job(job_id)
        return job if job is not None and job["status"] == "done" else None

    job = await daemon.eventually(done, message="the job is done")
    return json.loads(job["result"]) if isinstance(job["result"], str) else job["result"]


# -- what its processes are


@pytest.mark.parametrize("how", ["forked", "a fresh interpreter each"])
async def test_a_job_sees_what_its_group_says(tmp_path, database_url, app: Soniq, how):
    """Also where the modules start threads, so that there is no fork."""
    cpu = max(os.sched_getaffinity(0))
    group = {
        "env": {"PLACE": "mail", "TZ": "XXX-5"},
        "nice": 7,
        "cpu_affinity": str(cpu),
        "rlimits": {"nofile": 777},
        "umask": "0137",
    }
    jobs = JOBS if how == "forked" else THREADED + JOBS
    async with Daemon(tmp_path, jobs=jobs, database_url=database_url, workers=group) as daemon:
        seen = await result_of(daemon, app, await app.enqueue("tell"))
    assert (seen["place"], seen["nice"], seen["cpus"]) == ("mail", 7, [cpu])
    assert (seen["nofile"], seen["umask"]) == ([777, 777], "0137")
    assert (seen["hour"], seen["local"]) == ("00", "05")


async def test_groups_differ_and_a_restarted_worker_is_again_what_its_group_says(tmp_path, database_url, app: Soniq):
    groups = [
        {"name": "plain", "queues": ["plain"]},
        {"name": "mail", "queues": ["mail"], "env": {"PLACE": "mail"}, "nice": 7},
    ]
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url, workers=groups) as daemon:
        plain = await result_of(daemon, app, await app.enqueue("tell", queue="plain"))
        assert (plain["place"], plain["nice"]) == (None, os.getpriority(os.PRIO_PROCESS, 0))
        mark = daemon.log.mark()
        killed = await daemon.kill("mail/1")
        await daemon.log_event("child_ready", since=mark, slot="mail/1")
        mail = await result_of(daemon, app, await app.enqueue("tell", queue="mail"))
        assert (mail["place"], mail["nice"]) == ("mail", 7)
        assert mail["pid"] != killed


@AS_ROOT
async def test_jobs_run_as_the_groups_user_while_the_master_does_not(tmp_path, postgres_url):
    group = {"user": "nobody", "group": "www-data"}
    async with (
        Soniq(database_url=postgres_url, enqueue_validation="none", pool_min_size=1) as app,
        Daemon(tmp_path, jobs=JOBS, database_url=postgres_url, workers=group) as daemon,
    ):
        seen = await result_of(daemon, app, await app.enqueue("tell"))
        assert seen["ids"] == [[65534] * 3, [33] * 3]
        assert seen["home"] == "/nonexistent"
        assert owner(daemon.pid) == 0
        mark = daemon.log.mark()
        os.kill(seen["pid"], signal.SIGKILL)
        await daemon.log_event("child_ready", since=mark, slot="default/1")
        await daemon.stop()


async def test_what_the_host_does_not_allow_fails_the_start_with_its_place(tmp_path):
    daemon = Daemon(tmp_path, workers={"user": "no-such-user", "cpu_affinity": [8000]})
    daemon.start()
    assert await daemon.exit_code() == 78
    log = daemon.log.tail()
    assert 'workers[0].user: expected a user of this host, got "no-such-user"' in log
    assert "workers[0].cpu_affinity: expected CPUs that soniqd may use" in log


async def test_soniqctl_reads_a_configuration_that_only_the_daemons_host_allows(tmp_path):
    daemon = Daemon(tmp_path, workers={"user": "no-such-user"})
    await daemon.soniqctl("config", "check")


async def test_a_cleanup_after_a_cancellation_gets_its_part_of_stop_signal_timeout(tmp_path, database_url, app: Soniq):
    """The default would leave it behind after a second."""
    out = tmp_path / "out"
    group = {"drain_timeout": "100ms", "stop_signal_timeout": "20s"}
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url, workers=group) as daemon:
        job_id = await app.enqueue("tidy_up", args={"out": str(out), "seconds": 2.0})
        await daemon.eventually(lambda: lines(out) == ["start"])
        assert await daemon.stop() == 0
    assert lines(out) == ["start", "tidy"]
    job = await app.get_job(job_id)
    assert job is not None
    assert (job["status"], job["crashes"], job["interruptions"]) == ("queued", 0, 1)


async def test_a_worker_that_does_not_leave_is_killed_after_stop_signal_timeout(tmp_path):
    group = {"drain_timeout": "100ms", "stop_signal_timeout": "1s"}
    async with Daemon(tmp_path, workers=group) as daemon:
        frozen = await daemon.freeze("default/1")
        mark = daemon.log.mark()
        await daemon.request("scale", group="default", processes=0)
        await daemon.log_event("child_killed", since=mark, pid=frozen, timeout_s=4)


# -- descriptors


@pytest.fixture
def few_descriptors() -> Iterator[int]:
    """A soft limit below the hard one, inherited by what a test starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
    yield 600
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_files_limit(pid: int) -> tuple[int, int]:
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)


@pytest.mark.parametrize("how", ["forked", "a fresh interpreter each"])
async def test_the_master_may_open_what_it_can_and_jobs_what_was_inherited(tmp_path, few_descriptors, how):
    async with Daemon(tmp_path, jobs=JOBS if how == "forked" else THREADED + JOBS) as daemon:
        soft, hard = open_files_limit(daemon.pid)
        assert soft == hard > few_descriptors
        assert open_files_limit(await daemon.pid_of("default/1")) == (few_descriptors, hard)


async def test_an_upgraded_master_still_knows_what_was_inherited(tmp_path, few_descriptors):
    async with Daemon(tmp_path) as daemon:
        await daemon.soniqctl("upgrade")
        await daemon.request("reload", all=True)
        assert open_files_limit(await daemon.pid_of("default/1"))[0] == few_descriptors
        assert open_files_limit(daemon.pid)[0] > few_descriptors


# -- how many there are


async def test_a_group_is_scaled_up_and_down_and_what_runs_may_finish(tmp_path, database_url, app: Soniq):
    out, until = tmp_path / "out", tmp_path / "until"
    workers = {"processes": 1, "concurrency": 1, "drain_timeout": "30s"}
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url, workers=workers) as daemon:
        first = await daemon.pid_of("default/1")
        printed = await daemon.soniqctl("scale", "default", "3", "--wait", "--timeout", "20s")
        assert printed == "default has 3 processes instead of 1; the configuration says 1\n"
        assert await daemon.pid_of("default/1") == first
        jobs = [await app.enqueue("wait_for", args={"out": str(out), "until": str(until)}) for _ in range(3)]
        await daemon.eventually(lambda: len(lines(out)) == 3)
        await daemon.soniqctl("scale", "default", "1")
        draining = {c["slot"] for c in (await daemon.status())["children"] if c["state"] == "draining"}
        assert draining == {"default/2", "default/3"}
        until.touch()
        await daemon.eventually(lambda: has(daemon, "default", 1))
        assert await daemon.pid_of("default/1") == first
        assert len([line for line in lines(out) if line.startswith("end")]) == 3
        for job_id in jobs:
            job = await app.get_job(job_id)
            assert job is not None
            assert job["attempts"] == 1


async def test_a_scaled_number_outlives_crashes_upgrades_and_reloads_until_the_file_says_another(tmp_path):
    async with Daemon(tmp_path, workers={"processes": 1}) as daemon:
        await daemon.soniqctl("scale", "default", "2", "--wait")
        await daemon.soniqctl("upgrade")
        daemon.write_jobs(JOBS)
        await daemon.soniqctl("reload")
        mark = daemon.log.mark()
        await daemon.kill("default/2")
        await daemon.log_event("child_ready", since=mark, slot="default/2")
        [group] = [group for group in (await daemon.status())["groups"] if group["name"] == "default"]
        assert (group["processes"], group["configured"]) == (2, 1)
        daemon.write_config(workers={"processes": 3})
        await daemon.soniqctl("reload")
        await daemon.eventually(lambda: has(daemon, "default", 3))


async def test_reload_all_takes_a_scaled_number_back(tmp_path):
    async with Daemon(tmp_path, workers={"processes": 1}) as daemon:
        await daemon.soniqctl("scale", "default", "2", "--wait")
        await daemon.soniqctl("reload", "--all")
        await daemon.eventually(lambda: has(daemon, "default", 1))


async def test_ttin_and_ttou_change_the_first_group_by_one_and_never_take_its_last(tmp_path):
    groups = [{"name": "first"}, {"name": "second"}]
    async with Daemon(tmp_path, workers=groups) as daemon:
        daemon.signal(signal.SIGTTIN)
        await daemon.eventually(lambda: has(daemon, "first", 2))
        daemon.signal(signal.SIGTTOU)
        await daemon.eventually(lambda: has(daemon, "first", 1))
        daemon.signal(signal.SIGTTOU)
        await daemon.log_event("scale_refused", reason="SIGTTOU")
        assert await has(daemon, "first", 1)
        assert await has(daemon, "second", 1)


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (("nobody", "2"), "cannot scale nobody: there is no such group of workers; there are default"),
        (("scheduler", "2"), "cannot scale scheduler: there is no such group of workers; there are default"),
        (("dfault", "2"), 'there are default; did you mean "default"?'),
    ],
)
async def test_what_cannot_be_scaled_is_refused(tmp_path, arguments, answer):
    async with Daemon(tmp_path) as daemon:
        with pytest.raises(AssertionError, match=re.escape(answer)):
            await daemon.soniqctl("scale", *arguments)


async def test_more_processes_than_connections_are_refused_with_the_numbers(tmp_path, postgres_url):
    tables: dict[str, Any] = {
        "database": {"max_connections": 20, "pool_max_size": 3},
        "workers": {"concurrency": 1},
        "scheduler": {"enabled": False},
    }
    async with Daemon(tmp_path, database_url=postgres_url, **tables) as daemon:
        await daemon.soniqctl("scale", "default", "4", "--wait")
        with pytest.raises(AssertionError, match=r"max_connections: expected 23 or more \(default 5 x 3, .*got 20"):
            await daemon.soniqctl("scale", "default", "5")
        assert await has(daemon, "default", 4)
        assert daemon.log.find("connections_exhausted") == []


# -- fresh ones


async def test_restart_replaces_a_group_one_by_one_and_leaves_the_others(tmp_path, database_url, app: Soniq):
    out, until = tmp_path / "out", tmp_path / "until"
    groups = [{"name": "mail", "processes": 3}, {"name": "other", "queues": ["nothing"]}]
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url, workers=groups) as daemon:
        before, others = await pids(daemon, "mail"), await pids(daemon, "other")
        await app.enqueue("wait_for", args={"out": str(out), "until": str(until)})
        await daemon.eventually(lambda: len(lines(out)) == 1)
        least = asyncio.create_task(_least(daemon, "mail"))
        answer = await daemon.soniqctl_json("restart", "mail")
        until.touch()
        assert (answer["groups"], answer["replaced"]) == (["mail"], 3)
        assert await least >= 3
        after = await pids(daemon, "mail")
        assert after.keys() == before.keys()
        assert set(after.values()).isdisjoint(before.values())
        assert await pids(daemon, "other") == others
        await daemon.eventually(lambda: len(lines(out)) == 2)
        assert lines(out)[0].split()[1] == lines(out)[1].split()[1]


async def _least(daemon: Daemon, group: str) -> int:
    """Count the group's working processes until a restart has ended; return the least that there were."""
    least = 1000
    while not daemon.log.find("restart_done"):
        children = [child for child in (await daemon.status())["children"] if child["group"] == group]
        least = min(least, sum(child["state"] == "running" for child in children))
        await asyncio.sleep(0.005)
    return least


async def test_restart_without_a_group_replaces_everything_the_scheduler_included(tmp_path):
    async with Daemon(tmp_path, workers=[{"name": "a"}, {"name": "b"}]) as daemon:
        before = {child["slot"]: child["pid"] for child in (await daemon.status())["children"]}
        assert (await daemon.soniqctl_json("restart"))["replaced"] == 3
        await daemon.eventually(lambda: _all_other(daemon, before))


async def _all_other(daemon: Daemon, before: dict[str, int]) -> bool:
    after = {child["slot"]: child["pid"] for child in (await daemon.status())["children"]}
    return after.keys() == before.keys() and set(after.values()).isdisjoint(before.values())


async def test_restart_of_a_group_that_does_not_exist_names_those_that_do(tmp_path):
    async with Daemon(tmp_path) as daemon:
        with pytest.raises(AssertionError, match="there is no such group; there are scheduler, default"):
            await daemon.soniqctl("restart", "nobody")


async def test_a_mistyped_name_is_told_which_one_is_meant(tmp_path):
    commands = {
        ("restart", "scheduller"): "scheduler",
        ("drain", "dfault"): "default",
        ("stacks", "dfault/1"): "default/1",
        ("logs", "--follow", "--group", "dfault"): "default",
        ("logs", "--follow", "--slot", "dfault/1"): "default/1",
    }
    async with Daemon(tmp_path) as daemon:
        for command, meant in commands.items():
            assert f'did you mean "{meant}"?' in await daemon.refusal(*command)


async def test_a_restart_whose_replacement_dies_fails_and_keeps_the_old_one(tmp_path):
    """The fork server has no memory left for another one."""
    async with Daemon(tmp_path, jobs=JOBS) as daemon:
        old = await daemon.pid_of("default/1")
        server = next(process for process in daemon.processes() if "fork server" in process.command)
        resource.prlimit(server.pid, resource.RLIMIT_AS, (1, resource.prlimit(server.pid, resource.RLIMIT_AS)[1]))
        await daemon.soniqctl("restart", "default", expect=1)
        await daemon.log_event("restart_failed")
        assert await daemon.pid_of("default/1") == old
