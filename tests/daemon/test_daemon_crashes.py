"""What becomes of jobs when processes of a daemon die."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from soniqd import Soniq
from tests.support.daemon import Daemon
from tests.support.waiting import eventually


def runs(path: Path) -> list[tuple[str, int, float]]:
    """The lines that the ``append`` job has written: text, pid, time."""
    if not path.exists():
        return []
    return [(text, int(pid), float(at)) for text, pid, at in (line.split() for line in path.read_text().splitlines())]


APPEND_THEN_SLEEP = """
import asyncio, os, time
from soniqd import Soniq

app = Soniq()


@app.job(name="mark")
async def mark(path: str, text: str, seconds: float = 0.0):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f"{text} {os.getpid()} {time.time()}\\n".encode())
    os.close(fd)
    await asyncio.sleep(seconds)
"""


async def test_two_thousand_jobs_run_once_each_over_two_workers(tmp_path, database_url, app: Soniq):
    out = tmp_path / "runs"
    async with Daemon(tmp_path, database_url=database_url, workers={"processes": 2, "concurrency": 10}) as daemon:
        await app.enqueue_many("append", [{"path": str(out), "text": str(n)} for n in range(2000)])
        await daemon.eventually(lambda: len(runs(out)) >= 2000, timeout_s=60)
        await daemon.stop()
    counts = Counter(text for text, _, _ in runs(out))
    assert len(counts) == 2000
    assert set(counts.values()) == {1}
    assert len({pid for _, pid, _ in runs(out)}) == 2


async def test_a_job_whose_worker_is_killed_runs_again_within_a_second(tmp_path, database_url, app: Soniq):
    out = tmp_path / "runs"
    async with Daemon(tmp_path, jobs=APPEND_THEN_SLEEP, database_url=database_url, workers={"processes": 2}) as daemon:
        job_id = await app.enqueue("mark", args={"path": str(out), "text": "a", "seconds": 1.0})
        await daemon.eventually(lambda: runs(out))
        _, pid, _ = runs(out)[0]
        killed_at = time.time()
        os.kill(pid, signal.SIGKILL)
        await daemon.eventually(lambda: len(runs(out)) == 2)
        assert runs(out)[1][2] - killed_at < 1.0
        await daemon.eventually(lambda: _is_done(app, job_id))
        job = await app.get_job(job_id)
        assert job is not None
        assert (job["crashes"], job["attempts"]) == (1, 1)
        await daemon.ready()


async def _is_done(app: Soniq, job_id: str) -> bool:
    job = await app.get_job(job_id)
    return job is not None and job["status"] == "done"


async def test_a_job_that_kills_its_workers_becomes_a_dead_letter_and_others_go_on(tmp_path, database_url, app: Soniq):
    jobs = APPEND_THEN_SLEEP + "\n\n@app.job(name='poison')\nasync def poison():\n    os.kill(os.getpid(), 9)\n"
    out = tmp_path / "runs"
    async with Daemon(tmp_path, jobs=jobs, database_url=database_url) as daemon:
        poison = await app.enqueue("poison")

        async def buried() -> bool:
            return await app.dead_letter.get(poison) is not None

        await daemon.eventually(buried)
        letter = await app.dead_letter.get(poison)
        assert letter is not None
        assert letter["dead_letter_reason"] == "worker_lost"
        await app.enqueue("mark", args={"path": str(out), "text": "after"})
        await daemon.eventually(lambda: runs(out))
        await daemon.ready()


async def test_children_of_a_killed_master_drain_and_leave(tmp_path, database_url, app: Soniq):
    out = tmp_path / "runs"
    async with Daemon(tmp_path, jobs=APPEND_THEN_SLEEP, database_url=database_url) as daemon:
        job_id = await app.enqueue("mark", args={"path": str(out), "text": "a", "seconds": 1.0})
        await daemon.eventually(lambda: runs(out))
        daemon.kill_master()
        await daemon.gone()
        assert await _is_done(app, job_id)
        assert len(runs(out)) == 1


async def test_a_new_master_releases_at_once_what_killed_children_of_a_killed_master_left(
    tmp_path, database_url, app: Soniq
):
    out = tmp_path / "runs"
    async with Daemon(tmp_path, jobs=APPEND_THEN_SLEEP, database_url=database_url) as daemon:
        await app.enqueue("mark", args={"path": str(out), "text": "a", "seconds": 60})
        await daemon.eventually(lambda: runs(out))
        pid = await daemon.pid_of("default/1")
        daemon.kill_master()
        os.kill(pid, signal.SIGKILL)
        await daemon.gone()
        daemon.start()
        await daemon.log_event("leftovers_released")
        await daemon.eventually(lambda: len(runs(out)) == 2)


async def test_a_new_master_watches_an_orphan_and_releases_its_job_the_moment_it_dies(
    tmp_path, database_url, app: Soniq
):
    out = tmp_path / "runs"
    patient = {"drain_timeout": 120}  # for the orphan to live until it is killed
    async with Daemon(tmp_path, jobs=APPEND_THEN_SLEEP, database_url=database_url, soniqd=patient) as daemon:
        await app.enqueue("mark", args={"path": str(out), "text": "a", "seconds": 60})
        await daemon.eventually(lambda: runs(out))
        orphan = await daemon.pid_of("default/1")
        daemon.kill_master()
        daemon.start()
        await daemon.ready()
        assert len(runs(out)) == 1
        os.kill(orphan, signal.SIGKILL)
        await daemon.eventually(lambda: len(runs(out)) == 2, timeout_s=3)
        await daemon.kill("default/1")


async def test_a_killed_fork_server_is_replaced_and_its_children_do_not_notice(tmp_path, database_url, app: Soniq):
    out = tmp_path / "runs"
    async with Daemon(tmp_path, jobs=APPEND_THEN_SLEEP, database_url=database_url) as daemon:
        worker = await daemon.pid_of("default/1")
        server = next(p for p in daemon.processes() if "fork server" in p.command)
        mark = daemon.log.mark()
        server.kill()
        await daemon.log_event("fork_server_lost")
        assert await daemon.pid_of("default/1") == worker
        await daemon.log_event("generation_booted", since=mark, timeout_s=20)
        mark = daemon.log.mark()
        await daemon.kill("default/1")
        await daemon.log_event("child_ready", since=mark, slot="default/1")
        await app.enqueue("mark", args={"path": str(out), "text": "after"})
        await daemon.eventually(lambda: runs(out))


async def test_what_a_killed_worker_had_started_is_killed_with_it(tmp_path, database_url, app: Soniq):
    jobs = """
    import asyncio, sys
    from soniqd import Soniq

    app = Soniq()


    @app.job(name="spawn")
    async def spawn(path: str):
        process = await asyncio.create_subprocess_exec("sleep", "600")
        with open(path, "a") as file:
            file.write(f"{process.pid}\\n")
        await process.wait()
    """
    out = tmp_path / "pids"
    async with Daemon(tmp_path, jobs=jobs, database_url=database_url) as daemon:
        await app.enqueue("spawn", args={"path": str(out)})
        await daemon.eventually(lambda: out.exists() and out.read_text().endswith("\n"))
        grandchild = int(out.read_text().split()[0])
        await daemon.kill("default/1")
        await eventually(lambda: not Path(f"/proc/{grandchild}").exists())


@pytest.mark.parametrize("order", ["worker first", "master first"])
async def test_nothing_is_left_over_after_killing_everything(tmp_path, order):
    async with Daemon(tmp_path, workers={"processes": 3}) as daemon:
        if order == "worker first":
            await daemon.kill("default/2")
        daemon.kill_master()
        await daemon.gone()
