"""What a whole daemon says about itself: backlog, leader, health, `top`, and why jobs wait."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import socket
import time
from typing import Any

import psycopg
import pytest

from soniqd import Soniq
from tests.support.daemon import BIN, Daemon
from tests.support.postgres import PostgresServer

JOBS = """
import asyncio, hashlib, time
from soniqd import Soniq

app = Soniq()


@app.job(name="sleep", timeout=120)
async def sleep(seconds: float = 60.0):
    await asyncio.sleep(seconds)


@app.job(name="noop")
async def noop():
    pass


@app.job(name="spin")
def spin(seconds: float = 60.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        hashlib.sha256(b"x" * 100_000)


@app.job(name="freeze")
async def freeze(seconds: float = 60.0):
    time.sleep(seconds)


@app.job(name="mail", queue="mail", priority=7, retries=8)
async def mail():
    pass
"""


async def enqueue(daemon: Daemon, name: str, *arguments: str) -> str:
    answer = await daemon.soniqctl_json("enqueue", name, *arguments)
    return str(answer["id"])


async def test_the_daemon_tells_the_tasks_of_the_code_in_use(tmp_path):
    async with Daemon(tmp_path, jobs=JOBS) as daemon:
        assert (await daemon.request("tasks"))["tasks"] == ["sleep", "noop", "spin", "freeze", "mail"]


async def test_enqueue_refuses_arguments_that_the_task_does_not_take(tmp_path):
    async with Daemon(tmp_path, jobs=JOBS) as daemon:
        refusal = await daemon.refusal("enqueue", "sleep", "--args", '{"second": 1}')
        assert refusal == ('soniqctl: cannot enqueue sleep: there is no argument "second"; did you mean "seconds"?\n')
        assert await daemon.soniqctl("jobs", "list") == "no jobs\n"


async def why(daemon: Daemon, job_id: str, expect: int = 0) -> dict[str, Any]:
    answer: dict[str, Any] = await daemon.soniqctl_json("jobs", "why", job_id, expect=expect)
    return answer


async def health(daemon: Daemon, *options: str, expect: int = 0) -> dict[str, Any]:
    answer: dict[str, Any] = await daemon.soniqctl_json("health", *options, expect=expect)
    return answer


def codes(answer: dict[str, Any]) -> list[str]:
    return [reason["code"] for reason in answer["reasons"]]


# -- status


async def test_status_tells_what_waits_who_leads_and_what_nobody_knows(tmp_path, database_url, app: Soniq):
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url) as daemon:
        await daemon.soniqctl("queues", "pause", "held")
        for _ in range(3):
            await enqueue(daemon, "noop", "--queue", "held")
        await enqueue(daemon, "noop", "--delay", "1h")
        await enqueue(daemon, "unheard")

        async def told() -> dict[str, Any] | None:
            status = await daemon.status()
            held = [queue for queue in status["queues"] or () if queue["name"] == "held"]
            told = held and held[0]["ready"] == 3 and status["unclaimable"] and status["leader"]
            return status if told else None

        status = await daemon.eventually(told)
        queues = {queue["name"]: queue for queue in status["queues"]}
        assert (queues["held"]["paused"], queues["held"]["ready_more"]) == (True, False)
        assert queues["held"]["oldest_s"] >= 0
        assert queues["default"]["later"] == 1
        assert status["unclaimable"] == {"unheard": 1}
        scheduler = await daemon.child("scheduler/1")
        expected = {"hostname": socket.gethostname(), "pid": scheduler["pid"], "slot": "scheduler/1"}
        assert status["leader"] == expected
        text = await daemon.soniqctl("status")
        assert "! 1 job of unheard waits for a worker that knows this task" in text
        assert f"led by {socket.gethostname()} (pid {scheduler['pid']}, scheduler/1 of this daemon)" in text
        [row] = [line.split() for line in text.splitlines() if line.startswith("held")]
        assert row[:3] == ["held", "paused", "3"]


async def test_the_leader_may_be_of_another_daemon(tmp_path, postgres_url):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    async with Daemon(first, jobs=JOBS, database_url=postgres_url) as leading:
        await leading.eventually(lambda: leading.log.find("scheduler_leads"))
        async with Daemon(second, jobs=JOBS, database_url=postgres_url) as following:
            pid = await leading.pid_of("scheduler/1")

            async def told() -> bool:
                leader = (await following.status())["leader"]
                return leader == {"hostname": socket.gethostname(), "pid": pid, "slot": None}

            await following.eventually(told)


async def test_status_and_health_answer_at_once_while_the_database_does_not(tmp_path, postgres_url):
    async with Daemon(tmp_path, jobs=JOBS, database_url=postgres_url) as daemon:
        await enqueue(daemon, "noop", "--delay", "1h")

        async def known() -> bool:
            return bool((await daemon.status())["queues"])

        await daemon.eventually(known)
        async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
            await connection.execute("LOCK TABLE soniq_jobs IN ACCESS EXCLUSIVE MODE")

            async def gave_up() -> dict[str, Any] | None:
                began = time.monotonic()
                status = await daemon.status()
                await daemon.request("health", ready=True)
                assert time.monotonic() - began < 1.0
                return status if status["backlog_error"] else None

            status = await daemon.eventually(gave_up, timeout_s=20)
            assert status["backlog_error"] == "no answer within 5 s"
            assert [queue["later"] for queue in status["queues"]] == [1], "the last known backlog is shown"
            assert status["backlog_age_s"] > 4
            text = await daemon.soniqctl("status")
            assert re.search(r"the queues are as they were .+ ago: no answer within 5 s", text), text
            await connection.rollback()

        async def fresh() -> bool:
            status = await daemon.status()
            return status["backlog_error"] is None and status["backlog_age_s"] < 4

        await daemon.eventually(fresh)


async def test_status_and_health_answer_while_the_database_is_down(tmp_path, own_postgres: PostgresServer):
    async with Daemon(tmp_path, jobs=JOBS, database_url=own_postgres.url("postgres")) as daemon:
        await daemon.eventually(lambda: _is_ready(daemon))
        await asyncio.to_thread(own_postgres.stop)

        async def down() -> bool:
            return (await daemon.status())["database"] == "down"

        await daemon.eventually(down)
        began = time.monotonic()
        assert (await daemon.request("health", ready=False))["healthy"], "a restart would not bring the database back"
        answer = await daemon.request("health", ready=True)
        assert time.monotonic() - began < 1.0
        assert codes(answer) == ["database_down"]
        assert answer["reasons"][0]["text"].startswith("the database is down: cannot connect to the database: ")
        [line] = [line for line in (await daemon.soniqctl("status")).splitlines() if "the database is down" in line]
        assert line.startswith("! the database is down, nothing is claimed until it is back: cannot connect to the ")
        await asyncio.to_thread(own_postgres.start)
        await daemon.eventually(lambda: _is_ready(daemon))


async def _is_ready(daemon: Daemon) -> bool:
    return bool((await daemon.request("health", ready=True))["healthy"])


# -- health


async def test_a_daemon_at_work_is_alive_and_ready(tmp_path):
    async with Daemon(tmp_path, jobs=JOBS, workers=[{}, {"name": "mail"}]) as daemon:
        await daemon.eventually(lambda: _is_ready(daemon))
        assert await daemon.soniqctl("health") == "alive\n"
        assert await daemon.soniqctl("health", "--ready") == "ready\n"
    assert (await _health_of_nobody(daemon)) == 3


async def _health_of_nobody(daemon: Daemon) -> int:
    process = await asyncio.create_subprocess_exec(
        str(BIN / "soniqctl"), "--socket", str(daemon.socket), "health", stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait()


async def test_a_group_without_a_worker_is_not_alive_until_it_has_one_again(tmp_path):
    async with Daemon(tmp_path, jobs=JOBS) as daemon:
        await daemon.eventually(lambda: _is_ready(daemon))
        [fork_server] = [row["pid"] for row in (await daemon.request("top"))["processes"] if row["name"] != "master"]
        os.kill(fork_server, signal.SIGSTOP)
        try:
            await daemon.kill("default/1")

            async def down() -> bool:
                return codes(await daemon.request("health", ready=False)) == ["group_down"]

            await daemon.eventually(down)
            output = await daemon.soniqctl("health", expect=1)
            assert output.startswith("no process of default is up, last exit: signal 9")
        finally:
            os.kill(fork_server, signal.SIGCONT)
        await daemon.eventually(lambda: _is_ready(daemon))


async def test_a_worker_that_is_full_of_long_jobs_is_ready_and_one_that_does_not_look_is_not(tmp_path):
    daemon = Daemon(tmp_path, jobs=JOBS)
    daemon.write_config(jobs={"poll_interval": "100ms"}, workers={"concurrency": 1, "hang_timeout": 0})
    async with daemon:
        await daemon.eventually(lambda: _is_ready(daemon))
        await enqueue(daemon, "sleep")

        async def full() -> bool:
            return (await daemon.child("default/1"))["in_flight"] == 1

        await daemon.eventually(full)
        looked = await daemon.eventually(lambda: _looked_more_than(daemon, 1.5))
        assert looked
        assert await _is_ready(daemon)


async def _looked_more_than(daemon: Daemon, seconds: float) -> bool:
    ago_s = (await daemon.child("default/1"))["looked_ago_s"]
    return ago_s is not None and ago_s > seconds


@pytest.mark.timeout(90)
async def test_a_group_whose_only_loop_is_blocked_is_not_ready_but_alive(tmp_path):
    daemon = Daemon(tmp_path, jobs=JOBS)
    daemon.write_config(jobs={"poll_interval": "100ms"}, workers={"concurrency": 2, "hang_timeout": 0})
    async with daemon:
        await daemon.eventually(lambda: _is_ready(daemon))
        await enqueue(daemon, "freeze", "--args", '{"seconds": 22}')

        async def not_looking() -> bool:
            return codes(await daemon.request("health", ready=True)) == ["group_not_looking"]

        await daemon.eventually(not_looking, timeout_s=30)
        assert (await daemon.request("health", ready=False))["healthy"]
        await daemon.soniqctl("health", "--ready", expect=1)
        await daemon.eventually(lambda: _is_ready(daemon), timeout_s=30)


async def test_a_drained_group_is_not_ready_until_it_is_resumed(tmp_path):
    async with Daemon(tmp_path, jobs=JOBS) as daemon:
        await daemon.eventually(lambda: _is_ready(daemon))
        await daemon.soniqctl("drain", "default")

        async def paused() -> bool:
            return (await daemon.child("default/1"))["state"] == "paused"

        await daemon.eventually(paused)
        assert (await health(daemon))["healthy"]
        assert codes(await health(daemon, "--ready", expect=1)) == ["group_drained"]
        await daemon.soniqctl("resume", "default")
        await daemon.eventually(lambda: _is_ready(daemon))


async def test_a_group_that_was_scaled_to_0_is_not_ready(tmp_path):
    async with Daemon(tmp_path, jobs=JOBS) as daemon:
        await daemon.eventually(lambda: _is_ready(daemon))
        await daemon.soniqctl("scale", "default", "0", "--wait")
        assert codes(await health(daemon, "--ready", expect=1)) == ["group_scaled_to_0"]
        await enqueue(daemon, "noop")

        async def told() -> bool:
            return bool((await daemon.status())["unclaimable_declared"])

        await daemon.eventually(told)
        [line] = [line for line in (await daemon.soniqctl("status")).splitlines() if "1 job of noop waits" in line]
        assert line.endswith("it is declared here, and no such worker is up")
        await daemon.soniqctl("scale", "default", "1", "--wait")
        await daemon.eventually(lambda: _is_ready(daemon))


async def test_a_paused_queue_is_the_operators_choice_and_the_daemon_ready(tmp_path):
    async with Daemon(tmp_path, jobs=JOBS) as daemon:
        await daemon.eventually(lambda: _is_ready(daemon))
        await daemon.soniqctl("queues", "pause", "default")
        assert await _is_ready(daemon)


# -- top


async def test_top_tells_what_each_process_does_and_uses(tmp_path):
    async with Daemon(tmp_path, jobs=JOBS, workers={"processes": 2, "concurrency": 1}) as daemon:
        job_id = await enqueue(daemon, "spin")

        async def runs() -> bool:
            return any(child["in_flight"] for child in (await daemon.status())["children"])

        await daemon.eventually(runs)

        async def told() -> dict[str, Any] | None:
            answer: dict[str, Any] = await daemon.soniqctl_json("top", "--interval", "500ms")
            [worker] = [child for child in answer["children"] if child["in_flight"]]
            return (
                answer if (worker["cpu_percent"] or 0) > 20 and (worker["oldest_job"] or {}).get("job_name") else None
            )

        answer = await daemon.eventually(told)
        [busy] = [child for child in answer["children"] if child["in_flight"]]
        assert busy["oldest_job"]["id"] == job_id
        assert busy["oldest_job"]["job_name"] == "spin"
        assert busy["oldest_job"]["ran_s"] > 0
        assert all(child["memory_bytes"] > 100_000 for child in answer["children"])
        assert [row["name"] for row in answer["processes"]] == ["master", "fork server 1"]
        assert answer["in_flight"] == 1
        lines = (await daemon.soniqctl("top", "--interval", "100ms")).splitlines()
        assert lines[0].startswith("soniqd running, database up: 1 running, ")
        assert any(job_id in line and "1/1" in line for line in lines)


async def test_top_counts_jobs_a_second(tmp_path):
    async with Daemon(tmp_path, jobs=JOBS) as daemon:
        async with Soniq(database_url=daemon.database_url, enqueue_validation="none") as app:
            looking = asyncio.create_task(daemon.soniqctl_json("top", "--interval", "3s"))
            while not looking.done():
                for _ in range(10):
                    await app.enqueue("noop")
                await asyncio.wait({looking}, timeout=0.05)
        answer = looking.result()
        assert answer["jobs_per_s"] > 1
        assert answer["jobs_per_s"] == pytest.approx(sum(child["jobs_per_s"] for child in answer["children"]), abs=0.05)


async def test_top_refreshes_on_a_terminal_until_it_is_interrupted(tmp_path):
    async with Daemon(tmp_path, jobs=JOBS) as daemon:
        near, far = pty.openpty()
        environ = {**os.environ, "TERM": "xterm", "COLUMNS": "160", "LINES": "30"}
        process = await asyncio.create_subprocess_exec(
            *(str(BIN / "soniqctl"), "-c", str(daemon.config), "top", "--interval", "100ms"),
            stdin=far,
            stdout=far,
            stderr=far,
            env=environ,
            start_new_session=True,
        )
        os.close(far)
        os.set_blocking(near, False)
        shown = bytearray()

        def drawn() -> bool:
            while True:
                try:
                    shown.extend(os.read(near, 65536))
                except BlockingIOError:
                    break
            return shown.count(b"default/1") >= 3

        try:
            await daemon.eventually(drawn)
            process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(process.wait(), 10) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            os.close(near)


# -- jobs why


async def test_why_a_job_of_a_real_daemon_waits_or_runs(tmp_path, database_url, app: Soniq):
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url, workers={"concurrency": 1}) as daemon:
        running = await enqueue(daemon, "sleep")

        async def runs() -> dict[str, Any] | None:
            answer = await why(daemon, running)
            return answer if answer["code"] == "running" else None

        answer = await daemon.eventually(runs)
        facts = answer["reasons"][0]["facts"]
        assert (facts["slot"], facts["pid"]) == ("default/1", await daemon.pid_of("default/1"))
        assert (facts["hostname"], facts["timeout_s"]) == (socket.gethostname(), 120.0)
        assert (await why(daemon, await enqueue(daemon, "noop")))["code"] == "workers_busy"
        assert (await why(daemon, await enqueue(daemon, "unheard")))["code"] == "unknown_task"
        assert (await why(daemon, await enqueue(daemon, "noop", "--delay", "1h")))["code"] == "scheduled"
        await daemon.soniqctl("drain", "default")
        waiting = await enqueue(daemon, "noop")

        async def drained() -> bool:
            return (await why(daemon, waiting))["code"] == "group_drained"

        await daemon.eventually(drained)
        await daemon.soniqctl("resume", "default")

        async def resumed() -> bool:
            return (await why(daemon, waiting))["code"] == "workers_busy"

        await daemon.eventually(resumed)
        await daemon.stop()
        assert (await why(daemon, waiting))["code"] == "daemon_not_running"


async def test_a_job_enqueued_by_name_is_as_its_task_declares(tmp_path, database_url, app: Soniq):
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url) as daemon:
        await daemon.soniqctl("queues", "pause", "mail")
        job = await daemon.soniqctl_json("jobs", "show", await enqueue(daemon, "mail"))
        assert (job["queue"], job["priority"], job["max_attempts"]) == ("mail", 7, 9)
