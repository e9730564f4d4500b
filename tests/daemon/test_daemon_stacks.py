"""``soniqctl stacks`` tells what a process does, whatever keeps it from answering otherwise."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from soniqd import Soniq
from tests.support.daemon import Daemon

JOBS = """
import asyncio, pathlib, re, time
from soniqd import Soniq

app = Soniq()


@app.job(name="waiter")
async def waiter(until: str):

    async def deeper():
        while not pathlib.Path(until).exists():
            await asyncio.sleep(0.05)

    await asyncio.gather(asyncio.create_task(deeper(), name="started by waiter"))


@app.job(name="threaded")
def threaded(until: str):
    while not pathlib.Path(until).exists():
        time.sleep(0.05)


@app.job(name="blocker")
async def blocker(until: str):
    while not pathlib.Path(until).exists():
        time.sleep(0.05)


@app.job(name="holder")
async def holder():
    re.match(r"(a|aa)+$", "a" * 80 + "b")
"""


def daemon_with(tmp_path: Path, database_url: str) -> Daemon:
    return Daemon(tmp_path, jobs=JOBS, database_url=database_url, workers={"hang_timeout": 60})


async def in_flight(daemon: Daemon) -> int:
    return int((await daemon.child("default/1"))["in_flight"])


async def finished(app: Soniq, *jobs: str) -> bool:
    found = [await app.get_job(job_id) for job_id in jobs]
    return {job["status"] if job else None for job in found} == {"done"}


def part(stacks: str, *words: str) -> str:
    """The paragraph about a thread or a task that has these words in its first line."""
    return next(part for part in stacks.split("\n\n") if all(word in part.split("\n")[0] for word in words))


async def test_several_who_ask_at_once_get_a_whole_answer_each(tmp_path):
    async with daemon_with(tmp_path, f"sqlite:///{tmp_path}/jobs.db") as daemon:
        answers = await asyncio.gather(*(daemon.request("stacks", worker="default/1") for _ in range(5)))
    for answer in answers:
        assert answer["source"] == "monitor"
        assert answer["stacks"].count("MainThread") == 1


async def test_a_live_worker_tells_threads_and_tasks_with_their_jobs_and_goes_on(tmp_path, database_url, app: Soniq):
    until = tmp_path / "until"
    async with daemon_with(tmp_path, database_url) as daemon:
        waiter, threaded = [await app.enqueue(name, args={"until": str(until)}) for name in ("waiter", "threaded")]
        await daemon.eventually(lambda: told(daemon, "in deeper", "in threaded"))
        answer = await daemon.soniqctl_json("stacks", "default/1")
        pid = await daemon.pid_of("default/1")
        assert (answer["slot"], answer["pid"], answer["source"]) == ("default/1", pid, "monitor")
        assert "2 jobs in flight: the event loop goes round" in answer["stacks"]
        assert "in deeper" in part(answer["stacks"], "Task started by waiter", f"job {waiter} (waiter)")
        assert "in threaded" in part(answer["stacks"], "Thread soniqd-handler-1", f"job {threaded} (threaded)")
        assert "MainThread, which runs the event loop" in answer["stacks"]
        until.touch()
        await daemon.eventually(lambda: finished(app, waiter, threaded))
        assert await daemon.pid_of("default/1") == pid


async def told(daemon: Daemon, *words: str) -> bool:
    stacks = (await daemon.request("stacks", worker="default/1"))["stacks"]
    return all(word in stacks for word in words)


async def test_a_worker_whose_loop_is_blocked_names_the_job_and_the_place(tmp_path, database_url, app: Soniq):
    until = tmp_path / "until"
    async with daemon_with(tmp_path, database_url) as daemon:
        job_id = await app.enqueue("blocker", args={"until": str(until)})
        await daemon.log_event("loop_blocked", slot="default/1")
        shown = await daemon.soniqctl("stacks", str(await daemon.pid_of("default/1")))
        assert "1 job in flight: the event loop has stood still for" in shown
        main = part(shown, "MainThread, which runs the event loop", f"job {job_id} (blocker)")
        assert "time.sleep(0.05)" in main or "exists()" in main
        until.touch()
        await daemon.eventually(lambda: finished(app, job_id))


async def test_c_code_that_keeps_the_interpreters_lock_is_seen_by_a_signal(tmp_path, database_url, app: Soniq):
    async with daemon_with(tmp_path, database_url) as daemon:
        await app.enqueue("holder")

        async def held() -> Any:
            answer = await daemon.request("stacks", worker="default/1")
            return answer if answer["source"] == "signal" else None

        answer = await daemon.eventually(held)
        assert "The interpreter's lock is held" in answer["stacks"]
        assert "in holder" in answer["stacks"]
        pid = await daemon.kill("default/1")
        await daemon.log_event("child_died", pid=pid)


def pending_signals(pid: int) -> set[int]:
    status = Path(f"/proc/{pid}/status").read_text()
    masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd:", "ShdPnd:"))]
    return {number for mask in masks for number in range(1, 65) if mask >> (number - 1) & 1}


async def test_a_stopped_process_is_told_to_be_stopped(tmp_path, database_url, app: Soniq):
    async with daemon_with(tmp_path, database_url) as daemon:
        worker = await daemon.child("default/1")
        pid = await daemon.freeze("default/1")
        with pytest.raises(AssertionError, match=rf"pid {pid} does not react, its state is T \(stopped\)"):
            await daemon.soniqctl("stacks", worker["worker_id"][:8])
        assert not pending_signals(pid) & {signal.SIGURG}
        daemon.thaw(pid)
        await daemon.eventually(lambda: told(daemon, "the event loop goes round"))


async def test_the_scheduler_tells_its_stacks_and_an_unknown_name_is_refused(tmp_path, database_url, app: Soniq):
    async with daemon_with(tmp_path, database_url) as daemon:
        shown = await daemon.soniqctl("stacks", "scheduler/1")
        assert "scheduler/1" in shown
        assert "MainThread, which runs the event loop" in shown
        with pytest.raises(AssertionError, match="there is no such process; there are default/1, scheduler/1"):
            await daemon.soniqctl("stacks", "default/7")
