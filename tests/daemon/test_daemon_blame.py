"""A worker that dies under its jobs costs those that ran one crash, and only the poisonous one more than that."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from soniqd import Soniq
from tests.support.daemon import Daemon
from tests.support.waiting import eventually_sync

JOBS = """
import asyncio, ctypes, os, pathlib, signal, time
from soniqd import Soniq

app = Soniq()
DEATHS = {
    "kill -9": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(3),
}


def note(path, text):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f"{text}\\n".encode())
    os.close(fd)


@app.job(name="poison")
async def poison(how: str):
    DEATHS[how]()


@app.job(name="poison_thread")
def poison_thread(how: str):
    DEATHS[how]()


@app.job(name="innocent")
async def innocent(out: str, text: str, until: str):
    note(out, text)
    while not pathlib.Path(until).exists():
        await asyncio.sleep(0.02)


@app.job(name="slow")
def slow(until: str):
    pathlib.Path(until + ".began").touch()
    while not pathlib.Path(until).exists():
        time.sleep(0.02)


@app.job(name="saw_off")
async def saw_off():
    os.closerange(3, 4096)


@app.job(name="bystander")
async def bystander():
    await asyncio.sleep(600)


@app.job(name="hog")
async def hog():
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1 << 20)))
"""
INNOCENTS = 12
CAUSES = {
    "kill -9": "signal 9 (SIGKILL)",
    "abort": "signal 6 (SIGABRT)",
    "segfault": "signal 11 (SIGSEGV)",
    "exit": "exit code 3",
}


def daemon_with(tmp_path: Path, database_url: str, *, environ: dict[str, str] | None = None, **group: Any) -> Daemon:
    return Daemon(tmp_path, jobs=JOBS, database_url=database_url, environ=environ, workers=group)


async def record(app: Soniq, job_id: str) -> Any:
    found = await app.get_job(job_id)
    assert found is not None
    return found


async def dead_letter(daemon: Daemon, app: Soniq, job_id: str) -> dict[str, Any]:
    async def find() -> Any:
        return await app.dead_letter.get(job_id)

    letter: dict[str, Any] = await daemon.eventually(find, timeout_s=30)
    return letter


def all_done(app: Soniq, jobs: list[str]) -> Callable[[], Awaitable[bool]]:
    async def all_done() -> bool:
        return {(await record(app, job_id))["status"] for job_id in jobs} == {"done"}

    return all_done


def in_status(app: Soniq, jobs: list[str], status: str, count: int) -> Callable[[], Awaitable[bool]]:
    async def in_status() -> bool:
        return [(await record(app, job_id))["status"] for job_id in jobs].count(status) == count

    return in_status


def began_of(until: Path) -> Path:
    """What a ``slow`` job leaves when it runs: its worker says so a moment before, and the database before that."""
    return Path(f"{until}.began")


def held(app: Soniq, count: int) -> Callable[[], Awaitable[bool]]:
    async def held() -> bool:
        return sum(row["processing"] for row in await app.get_queue_stats()) == count

    return held


@pytest.mark.parametrize("task", ["poison", "poison_thread"])
@pytest.mark.parametrize("how", CAUSES)
async def test_twelve_innocents_beside_a_poison_job_lose_nothing(tmp_path, database_url, app: Soniq, how, task):
    out, until = tmp_path / "runs", tmp_path / "until"
    async with daemon_with(tmp_path, database_url, concurrency=INNOCENTS + 1) as daemon:
        args = {"out": str(out), "until": str(until)}
        innocents = [await app.enqueue("innocent", args={**args, "text": str(n)}) for n in range(INNOCENTS)]
        await daemon.eventually(lambda: out.exists() and len(out.read_text().split()) == INNOCENTS)
        poison = await app.enqueue(task, args={"how": how})
        died = await daemon.log_event("child_died", slot="default/1")
        until.touch()
        assert died["cause"] == CAUSES[how]
        letter = await dead_letter(daemon, app, poison)
        await daemon.eventually(all_done(app, innocents), timeout_s=30)
        assert letter["dead_letter_reason"] == "worker_lost"
        assert letter["last_error"].split("\n")[0] == f"worker default/1 ended with {CAUSES[how]}"
        assert (await record(app, poison))["crashes"] == 3
        assert {(await record(app, job_id))["crashes"] for job_id in innocents} == {1}
        assert {(await record(app, job_id))["attempts"] for job_id in innocents} == {1}
        assert set(Counter(out.read_text().split()).values()) == {2}
        assert (f"in {task}" in letter["last_error"]) == (how in ("abort", "segfault"))
        await daemon.ready()


async def test_jobs_that_were_held_and_had_not_begun_count_no_crash(tmp_path, database_url, app: Soniq):
    until = tmp_path / "until"
    async with daemon_with(
        tmp_path, database_url, environ={"SONIQ_SYNC_HANDLER_POOL_SIZE": "1"}, concurrency=8
    ) as daemon:
        await daemon.soniqctl("drain")
        jobs = [await app.enqueue("slow", args={"until": str(until)}) for _ in range(8)]
        pid = await daemon.pid_of("default/1")
        await daemon.soniqctl("resume")
        await daemon.eventually(held(app, 8))
        await daemon.eventually(began_of(until).exists)
        os.kill(pid, signal.SIGKILL)
        until.touch()
        await daemon.eventually(all_done(app, jobs))
        assert sorted([(await record(app, job_id))["crashes"] for job_id in jobs]) == [0] * 7 + [1]


async def test_a_suspect_that_waited_for_its_turn_counts_no_crash(tmp_path, database_url, app: Soniq):
    until = tmp_path / "until"
    args = {"until": str(until)}
    async with daemon_with(tmp_path, database_url) as daemon:
        suspect = await app.enqueue("slow", args=args, queue="late")
        await daemon.eventually(began_of(until).exists)
        await daemon.soniqctl("queues", "pause", "late")
        await daemon.kill("default/1")
        await daemon.eventually(lambda: crashed(app, suspect))
        await daemon.ready()
        began_of(until).unlink()
        running = await app.enqueue("slow", args=args)
        await daemon.eventually(began_of(until).exists)
        await daemon.soniqctl("queues", "resume", "late")
        await daemon.eventually(held(app, 2))
        mark = daemon.log.mark()
        await daemon.kill("default/1")
        await daemon.log_event("jobs_released", since=mark, requeued=2)
        until.touch()
        await daemon.eventually(all_done(app, [suspect, running]))
        assert [(await record(app, job_id))["crashes"] for job_id in (suspect, running)] == [1, 1]


async def test_a_kill_in_idleness_blames_nobody_and_the_worker_tells_how_it_ended(tmp_path, database_url, app: Soniq):
    async with daemon_with(tmp_path, database_url) as daemon:
        await daemon.kill("default/1")
        await daemon.log_event("child_died", slot="default/1", cause="signal 9 (SIGKILL)")
        await daemon.ready()

        async def ended() -> list[tuple[str, str]]:
            return [(row["slot"], row["ended"]) for row in await daemon.soniqctl_json("inspect", "--stopped")]

        await daemon.eventually(ended)
        assert await ended() == [("default/1", "worker default/1 ended with signal 9 (SIGKILL)")]
        assert (await daemon.child("default/1"))["last_exit"] == "signal 9 (SIGKILL)"


async def test_the_cause_of_a_crash_stays_with_a_job_that_runs_again(tmp_path, database_url, app: Soniq):
    until = tmp_path / "until"
    async with daemon_with(tmp_path, database_url) as daemon:
        job_id = await app.enqueue("slow", args={"until": str(until)})
        await daemon.eventually(began_of(until).exists)
        await daemon.kill("default/1", signal.SIGSEGV)
        await daemon.eventually(lambda: crashed(app, job_id))
        shown = await daemon.soniqctl("jobs", "show", job_id)
        assert "worker default/1 ended with signal 11 (SIGSEGV)" in shown
        assert "in slow" in shown
        until.touch()
        await daemon.eventually(all_done(app, [job_id]))


async def crashed(app: Soniq, job_id: str) -> bool:
    return bool((await record(app, job_id))["crashes"])


async def test_a_worker_that_the_kernel_killed_for_want_of_memory_is_told_apart(
    tmp_path, database_url, app: Soniq, memory_group: Path
):
    async with AsyncExitStack() as stack:
        with inside(memory_group):
            environ = {"SONIQ_MAX_CRASHES": "1"}
            daemon = await stack.enter_async_context(
                daemon_with(tmp_path, database_url, environ=environ, hang_timeout=0)
            )
        job_id = await app.enqueue("hog")
        letter = await dead_letter(daemon, app, job_id)
        assert letter["last_error"] == "worker default/1 ended with signal 9 (SIGKILL), out of memory"
        assert (await daemon.child("default/1"))["last_exit"] == "signal 9 (SIGKILL), out of memory"
        await daemon.ready()
        mark = daemon.log.mark()
        await daemon.kill("default/1")
        await daemon.log_event("child_died", since=mark, slot="default/1", cause="signal 9 (SIGKILL)")


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group with little memory, where this machine lets us make one."""
    version_1 = Path("/sys/fs/cgroup/memory")
    group = (version_1 if version_1.is_dir() else Path("/sys/fs/cgroup")) / f"soniqd-test-{os.getpid()}"
    limit = "memory.limit_in_bytes" if version_1.is_dir() else "memory.max"
    try:
        group.mkdir()
        (group / limit).write_text(str(400 << 20))
    except OSError as error:
        with suppress(OSError):
            group.rmdir()
        pytest.skip(f"no control group with a memory limit can be made here: {error.strerror}")
    yield group
    eventually_sync(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


@contextmanager
def inside(group: Path) -> Iterator[None]:
    """Let what is started here begin its life in a control group."""
    lines = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    home = next(path for _, controllers, path in lines if controllers in ("memory", ""))
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (group.parent / home.lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))


async def test_a_job_that_ruins_its_worker_and_returns_becomes_a_dead_letter(tmp_path, database_url, app: Soniq):
    async with daemon_with(tmp_path, database_url, concurrency=4) as daemon:
        poison = await app.enqueue("saw_off")
        letter = await dead_letter(daemon, app, poison)
        assert (letter["dead_letter_reason"], letter["attempts"]) == ("worker_lost", 0)
