"""The master executes itself in place: what goes on, and what nobody notices."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from soniqd import Soniq
from tests.support.daemon import Daemon
from tests.support.proc_files import descriptors
from tests.support.processes import find_process

PATIENT = """
import os, time, asyncio
from soniqd import Soniq

app = Soniq()


@app.job(name="wait_for")
async def wait_for(out: str, until: str):
    with open(out, "a") as file:
        file.write(f"start {os.getpid()}\\n")
    while not os.path.exists(until):
        await asyncio.sleep(0.01)
    with open(out, "a") as file:
        file.write(f"end {os.getpid()}\\n")


@app.job(name="crash")
async def crash():
    os.abort()
"""


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def pids(status: dict[str, Any]) -> dict[str, int]:
    return {child["slot"]: child["pid"] for child in status["children"]}


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def up(daemon: Daemon, slot: str) -> bool:
    return bool((await daemon.child(slot))["state"] == "running")


async def test_the_process_and_its_children_keep_their_pids_and_the_image_is_a_new_one(tmp_path):
    async with Daemon(tmp_path, workers={"processes": 2}) as daemon:
        before, started = await daemon.status(), find_process(daemon.pid)
        answer = await daemon.soniqctl_json("upgrade")
        after = await daemon.status()
        assert started is not None
        assert started.alive
        assert answer["pid"] == after["pid"] == before["pid"] == daemon.pid
        assert pids(after) == pids(before)
        assert after["upgrades"] == 1
        assert after["last_upgrade"]["error"] is None
        assert answer["children"] == 3


async def test_usr2_does_the_same_and_the_log_tells(tmp_path):
    async with Daemon(tmp_path) as daemon:
        before = pids(await daemon.status())
        daemon.signal(signal.SIGUSR2)
        await daemon.log_event("upgrade_done")
        assert pids(await daemon.status()) == before


async def test_a_running_job_does_not_notice(tmp_path, database_url, app: Soniq):
    out, go = tmp_path / "out", tmp_path / "go"
    async with Daemon(tmp_path, jobs=PATIENT, database_url=database_url) as daemon:
        worker = await daemon.pid_of("default/1")
        job_id = await app.enqueue("wait_for", args={"out": str(out), "until": str(go)})
        await daemon.eventually(lambda: lines(out))
        await daemon.soniqctl("upgrade")
        assert (await daemon.child("default/1"))["in_flight"] == 1
        go.touch()
        await daemon.eventually(lambda: lines(out) == [f"start {worker}", f"end {worker}"])
        await daemon.eventually(lambda: _done(daemon))
        job = await app.get_job(job_id)
        assert job is not None
        assert (job["status"], job["attempts"]) == ("done", 1)


async def _done(daemon: Daemon) -> bool:
    return bool((await daemon.child("default/1"))["done"] == 1)


async def test_work_goes_on_through_the_new_image(tmp_path, database_url, app: Soniq):
    """Waking workers, due jobs and schedules are the master's: here they are those of the new image."""
    out = tmp_path / "out"
    async with Daemon(tmp_path, database_url=database_url) as daemon:
        await daemon.soniqctl("upgrade")
        await app.enqueue("append", args={"path": str(out), "text": "now"})
        await app.schedule("append", 1.0, args={"path": str(out), "text": "later"})
        await daemon.eventually(lambda: len(lines(out)) == 2)


async def test_what_status_tells_goes_on(tmp_path):
    """Restarts, last exits, start times, the last reload, paused groups, scaled numbers."""
    workers = [{"processes": 1}, {"name": "mail", "processes": 1, "queues": ["mail"]}]
    async with Daemon(tmp_path, workers=workers) as daemon:
        mark = daemon.log.mark()
        await daemon.kill("default/1")
        await daemon.log_event("child_ready", since=mark, slot="default/1")
        await daemon.soniqctl("scale", "mail", "2")
        await daemon.eventually(lambda: up(daemon, "mail/2"))
        await daemon.soniqctl("reload")
        await daemon.soniqctl("drain", "mail")
        before = await daemon.status()
        await daemon.soniqctl("upgrade")
        after = await daemon.status()
        for name in ("started_at", "generation", "last_reload", "config", "location", "database"):
            assert after[name] == before[name]
        assert after["uptime_s"] > before["uptime_s"]
        assert after["groups"] == before["groups"]
        assert [_lasting(child) for child in after["children"]] == [_lasting(child) for child in before["children"]]
        assert {child["slot"]: child["restarts"] for child in after["children"]}["default/1"] == 1
        assert after["last_reload"] is not None


def _lasting(child: dict[str, Any]) -> dict[str, Any]:
    return {name: child[name] for name in ("slot", "pid", "worker_id", "generation", "restarts", "last_exit")}


async def test_a_child_that_dies_later_comes_back_from_the_same_fork_server(tmp_path):
    async with Daemon(tmp_path) as daemon:
        await daemon.soniqctl("upgrade")
        mark = daemon.log.mark()
        killed = await daemon.kill("default/1")
        await daemon.log_event("child_died", since=mark, pid=killed)
        await daemon.log_event("child_ready", since=mark, slot="default/1")
        assert not daemon.log.find("generation_booted", since=mark)
        assert (await daemon.child("default/1"))["restarts"] == 1


async def test_a_reload_after_it_works_as_ever(tmp_path):
    async with Daemon(tmp_path) as daemon:
        await daemon.soniqctl("upgrade")
        before = await daemon.pid_of("default/1")
        daemon.write_jobs(PATIENT)
        answer = await daemon.soniqctl_json("reload")
        assert answer["generation"] == 2
        assert await daemon.pid_of("default/1") != before


async def test_twenty_upgrades_leak_no_descriptor_and_no_process(tmp_path):
    async with Daemon(tmp_path) as daemon:
        await daemon.soniqctl("upgrade")
        before, processes = await _settled(daemon), pids(await daemon.status())
        for _ in range(20):
            await daemon.request("upgrade")
        assert (await daemon.status())["upgrades"] == 21
        await daemon.eventually(lambda: len(descriptors(daemon.pid)) <= before)
        assert pids(await daemon.status()) == processes
        await daemon.eventually(lambda: len(daemon.processes()) == len(processes) + 1, message="fork server, children")


async def _settled(daemon: Daemon) -> int:
    """Return how many descriptors there are once the database is connected again."""
    await daemon.eventually(lambda: daemon.log.find("upgrade_done"))
    counts: list[int] = []
    while len(counts) < 5 or len(set(counts[-5:])) > 1:
        counts.append(len(descriptors(daemon.pid)))
        await asyncio.sleep(0.05)
    return counts[-1]


async def test_every_descriptor_is_close_on_exec_again(tmp_path):
    async with Daemon(tmp_path) as daemon:
        await daemon.soniqctl("upgrade")
        inherited = [d for d in descriptors(daemon.pid) if not d.flags & os.O_CLOEXEC]
        assert len(inherited) == 3, inherited


async def test_children_do_not_inherit_the_state_variable(tmp_path):
    async with Daemon(tmp_path) as daemon:
        await daemon.soniqctl("upgrade")
        mark = daemon.log.mark()
        daemon.write_jobs(PATIENT)
        await daemon.soniqctl("reload")
        await daemon.log_event("reload_done", since=mark)
        assert b"SONIQD_" not in environment(await daemon.pid_of("default/1"))


async def test_it_is_refused_while_a_reload_is_under_way(tmp_path):
    slow = "import os, time\nwhile not os.path.exists('go'):\n    time.sleep(0.01)\n"
    async with Daemon(tmp_path) as daemon:
        daemon.write_jobs(slow + PATIENT)
        daemon.signal(signal.SIGHUP)
        await daemon.log_event("reload_started")
        with_reason = await daemon.refusal("upgrade")
        assert "a reload is under way" in with_reason
        (tmp_path / "go").touch()
        await daemon.log_event("reload_done")
        await daemon.soniqctl("upgrade")


async def test_a_daemon_that_stops_is_not_upgraded(tmp_path, database_url, app: Soniq):
    out, go = tmp_path / "out", tmp_path / "go"
    async with Daemon(tmp_path, jobs=PATIENT, database_url=database_url) as daemon:
        await app.enqueue("wait_for", args={"out": str(out), "until": str(go)})
        await daemon.eventually(lambda: lines(out))
        daemon.signal(signal.SIGTERM)
        await daemon.log_event("daemon_stopping")
        assert "stopping" in await daemon.refusal("upgrade")
        go.touch()


async def test_a_broken_configuration_is_told_and_changes_nothing(tmp_path):
    async with Daemon(tmp_path) as daemon:
        before = pids(await daemon.status())
        daemon.write_config(workers={"processes": "many", "concurency": 3})
        error = await daemon.refusal("upgrade")
        assert "processes" in error
        assert "concurency" in error
        status = await daemon.status()
        assert pids(status) == before
        assert status["upgrades"] == 0
        assert "concurency" in status["last_upgrade"]["error"]


async def test_a_changed_configuration_waits_for_the_next_reload(tmp_path):
    async with Daemon(tmp_path, workers={"processes": 1}) as daemon:
        daemon.write_config(workers={"processes": 2})
        await daemon.soniqctl("upgrade")
        assert len((await daemon.status())["children"]) == 2
        await daemon.soniqctl("reload")
        assert len((await daemon.status())["children"]) == 3


async def test_two_who_ask_at_once_are_both_answered(tmp_path):
    async with Daemon(tmp_path) as daemon:
        first, second = await asyncio.gather(daemon.soniqctl_json("upgrade"), daemon.soniqctl_json("upgrade"))
        assert first["pid"] == second["pid"] == daemon.pid


async def test_a_daemon_without_its_database_can_be_upgraded_and_settles_what_it_owes_later(tmp_path, own_postgres):
    out = tmp_path / "out"
    url = own_postgres.url("postgres")
    async with Daemon(tmp_path, jobs=PATIENT, database_url=url) as daemon:
        async with Soniq(database_url=url, enqueue_validation="none", pool_min_size=1) as app:
            job_id = await app.enqueue("wait_for", args={"out": str(out), "until": str(tmp_path / "go")})
            await daemon.eventually(lambda: lines(out))
        own_postgres.stop()
        await daemon.log_event("database_down")
        mark = daemon.log.mark()
        killed = await daemon.kill("default/1")
        await daemon.log_event("child_died", since=mark, pid=killed)
        await daemon.eventually(lambda: _owed(daemon, 1))
        await daemon.soniqctl("upgrade")
        assert await _owed(daemon, 1)
        (tmp_path / "go").touch()
        own_postgres.start()
        await daemon.log_event("jobs_released", requeued=1, cause="crash", timeout_s=30)
        await daemon.eventually(lambda: len(lines(out)) == 3, timeout_s=30)
        assert job_id


async def _owed(daemon: Daemon, count: int) -> bool:
    return bool((await daemon.status())["pending_releases"] == count)


async def test_the_service_manager_hears_of_the_gap_and_its_end(tmp_path):
    from tests.daemon.test_daemon_systemd import ServiceManager

    manager = ServiceManager(tmp_path / "notify")
    try:
        async with Daemon(tmp_path, environ={"NOTIFY_SOCKET": manager.address}) as daemon:
            await daemon.eventually(lambda: manager.said("READY") == 1)
            await daemon.soniqctl("upgrade")
            await daemon.eventually(lambda: manager.said("READY") == 2)
            order = [name for datagram in manager.listen() for name in datagram if name in ("READY", "RELOADING")]
            assert order == ["READY", "RELOADING", "READY"]
    finally:
        manager.close()
