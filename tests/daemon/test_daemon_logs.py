"""Lines of jobs: whose they are, that they never mix, and that nobody has to wait for whoever follows them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from soniqd import Soniq
from tests.support.daemon import BIN, Daemon
from tests.support.follower import Follower

JOBS = '''
import asyncio, concurrent.futures, logging, multiprocessing, os, subprocess, sys, threading, time
from soniqd import Soniq

app = Soniq()
log = logging.getLogger("shop")
kept = sys.stdout
pool = concurrent.futures.ThreadPoolExecutor(2)


@app.job(name="chunks")
async def chunks(name: str, lines: int = 30):
    """Prints each line in pieces, with others in between."""
    for number in range(lines):
        for piece in (name, f" {number} ", name):
            print(piece, end="")
            await asyncio.sleep(0)
        print()
        log.info("%s logs %d", name, number)


@app.job(name="blocking_chunks")
def blocking_chunks(name: str, lines: int = 30):
    for number in range(lines):
        for piece in (name, f" {number} ", name):
            sys.stdout.write(piece)
            time.sleep(0.0005)
        print()


@app.job(name="everywhere")
async def everywhere(name: str):
    """Prints from wherever a job can run code."""
    def say(where):
        print(name, where)
        time.sleep(0.005)
        log.warning("%s %s logged", name, where)

    loop = asyncio.get_running_loop()
    say("loop")
    await asyncio.create_task(asyncio.to_thread(say, "to_thread"))
    await loop.run_in_executor(None, say, "executor")
    await loop.run_in_executor(pool, say, "pool")
    thread = threading.Thread(target=say, args=("thread",))
    thread.start()
    await asyncio.to_thread(thread.join)
    await asyncio.to_thread(sync_part, say)
    print(name, "kept stream", file=kept)
    sys.stdout.buffer.write(f"{name} bytes\\n".encode())
    print(name, "stderr", file=sys.stderr)


def sync_part(say):
    with concurrent.futures.ThreadPoolExecutor(2) as own:
        list(own.map(say, ["own pool"]))


@app.job(name="say")
async def say(text: str = "hello", end: str = "\\n"):
    print(text, end=end)


@app.job(name="log")
async def log_(text: str, level: str = "info"):
    getattr(log, level)(text)


@app.job(name="flood")
def flood(lines: int, size: int = 100):
    line = "x" * size
    for number in range(lines):
        print(number, line)


@app.job(name="processes")
def processes():
    subprocess.run(["echo", "from a program"], check=True)
    child = multiprocessing.get_context("fork").Process(target=print, args=("from a fork",))
    child.start()
    child.join()


@app.job(name="wait_and_fail", retries=0)
async def wait_and_fail(path: str):
    while not os.path.exists(path):
        print("waiting")
        await asyncio.sleep(0.02)
    raise RuntimeError("on purpose")
'''


@contextlib.asynccontextmanager
async def running(folder: Path, **tables: Any) -> AsyncIterator[tuple[Daemon, Soniq]]:
    tables = {"workers": {"processes": 1, "concurrency": 8}, "scheduler": {"enabled": False}, **tables}
    async with (
        Daemon(folder, jobs=JOBS, **tables) as daemon,
        Soniq(database_url=daemon.database_url, enqueue_validation="none") as app,
    ):
        yield daemon, app


async def printed_by(daemon: Daemon, job_id: str, count: int) -> list[str]:
    """Wait until the daemon's own log has so many lines that a job printed; return them."""
    found = await daemon.eventually(
        lambda: len(lines := daemon.log.find("printed", job_id=job_id)) >= count and lines,
        message=f"{count} lines of {job_id}",
    )
    return [record["message"] for record in found]


@pytest.mark.parametrize("name", ["chunks", "blocking_chunks"])
async def test_lines_of_concurrent_jobs_never_mix(tmp_path: Path, name: str) -> None:
    letters = "abcdef"
    async with running(tmp_path) as (daemon, app), Follower(daemon, "logs", "--follow") as follower:
        jobs = {letter: await app.enqueue(name, args={"name": letter * 5}) for letter in letters}
        for job_id in jobs.values():
            await printed_by(daemon, job_id, 30)
        expected = {
            job_id: [f"{letter * 5} {number} {letter * 5}" for number in range(30)] for letter, job_id in jobs.items()
        }
        for job_id, lines in expected.items():
            assert await printed_by(daemon, job_id, 30) == lines
        followed: dict[str, list[str]] = {job_id: [] for job_id in expected}
        while followed != expected:
            entry = await follower.entry(event="printed")
            followed[entry["job_id"]].append(entry["message"])
            assert len(followed[entry["job_id"]]) <= 30


async def test_every_place_where_a_job_runs_code_knows_the_job(tmp_path: Path) -> None:
    places = ["loop", "to_thread", "executor", "pool", "thread", "own pool"]
    expected = Counter([*places, *(f"{place} logged" for place in places), "kept stream", "bytes", "stderr"])
    async with running(tmp_path) as (daemon, app), Follower(daemon, "logs", "--follow") as follower:
        jobs = {await app.enqueue("everywhere", args={"name": name}): name for name in ("one", "two", "three")}
        for _ in range(sum(expected.values()) * len(jobs)):
            await follower.entry(slot="default/1")
        logged = [record for event in ("printed", "log") for record in daemon.log.find(event)]
        for records in (follower.seen, logged):
            places_of: dict[str, Counter[str]] = {job_id: Counter() for job_id in jobs}
            for record in records:
                name, _, place = record["message"].partition(" ")
                assert jobs[record["job_id"]] == name
                places_of[record["job_id"]][place] += 1
            assert all(found == expected for found in places_of.values())


async def test_one_job_can_be_followed_alone(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with running(tmp_path) as (daemon, app):
        wanted = await app.enqueue("wait_and_fail", args={"path": str(gate)})
        await printed_by(daemon, wanted, 1)
        async with Follower(daemon, "logs", "--follow", "--job", wanted) as follower:
            other = await app.enqueue("chunks", args={"name": "other"})
            await printed_by(daemon, other, 30)
            await follower.entry(message="waiting")
            gate.touch()
            ended = await follower.entry(event="job_dead_lettered")
            assert "on purpose" in ended["message"]
            assert {entry["job_id"] for entry in follower.seen} == {wanted}


async def test_groups_processes_and_levels_can_be_followed_alone(tmp_path: Path) -> None:
    groups = [{"name": "mail", "queues": ["mail"], "processes": 2}, {"name": "rest", "queues": ["default"]}]
    async with (
        running(tmp_path, workers=groups) as (daemon, app),
        Follower(daemon, "logs", "--follow", "--group", "mail") as mail,
        Follower(daemon, "logs", "--follow", "--slot", "rest/1") as rest,
        Follower(daemon, "logs", "--follow", "--level", "warning") as warnings,
    ):
        for queue in ("mail", "default"):
            for level in ("info", "error"):
                await app.enqueue("log", args={"text": f"{queue} {level}", "level": level}, queue=queue)
        await app.enqueue("say", args={"text": "last"}, queue="mail")
        await app.enqueue("say", args={"text": "last"}, queue="default")
        for follower, count in ((mail, 3), (rest, 3), (warnings, 2)):
            while len(follower.seen) < count:
                await follower.entry()
        assert {entry["message"] for entry in mail.seen} == {"mail info", "mail error", "last"}
        assert {entry["slot"].partition("/")[0] for entry in mail.seen} == {"mail"}
        assert {entry["message"] for entry in rest.seen} == {"default info", "default error", "last"}
        assert {entry["message"] for entry in warnings.seen} == {"mail error", "default error"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(("--group", "mails"), "there are default"), (("--slot", "default/9"), "there are default/1")],
    ids=str,
)
async def test_what_does_not_exist_is_not_waited_for(
    tmp_path: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    async with running(tmp_path) as (daemon, _):
        process = await asyncio.create_subprocess_exec(
            str(BIN / "soniqctl"), "-c", str(daemon.config), "logs", "-f", *arguments, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 1
        assert complaint in errors.decode()


async def test_a_worker_that_starts_later_is_followed_too(tmp_path: Path) -> None:
    async with running(tmp_path) as (daemon, app), Follower(daemon, "logs", "--follow") as follower:
        mark = daemon.log.mark()
        killed = await daemon.kill("default/1")
        await daemon.log_event("child_ready", since=mark, slot="default/1")
        await app.enqueue("say")
        said = await follower.entry(message="hello")
        assert said["pid"] != killed
        assert [entry["source"] for entry in follower.seen if entry["event"] == "child_died"] == ["soniqd"]


async def test_a_line_without_end_comes_with_the_end_of_its_job(tmp_path: Path) -> None:
    async with running(tmp_path) as (daemon, app):
        job_id = await app.enqueue("say", args={"text": "half a line", "end": ""})
        assert await printed_by(daemon, job_id, 1) == ["half a line"]


async def test_what_programs_write_is_passed_on_and_what_forks_print_is_the_jobs(tmp_path: Path) -> None:
    async with running(tmp_path) as (daemon, app):
        job_id = await app.enqueue("processes")
        assert await printed_by(daemon, job_id, 1) == ["from a fork"]
        assert "from a program" in daemon.log.other_lines


async def test_children_that_are_not_forked_are_followed_just_as_well(tmp_path: Path) -> None:
    """Those of modules that start threads at import."""
    async with running(tmp_path) as (daemon, app):
        daemon.write_jobs(JOBS + "\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n")
        await daemon.soniqctl("reload")
        await daemon.log_event("generation_has_threads")
        async with Follower(daemon, "logs", "--follow", "--slot", "default/1") as follower:
            job_id = await app.enqueue("say", args={"text": "half", "end": ""})
            assert (await follower.entry(message="half"))["job_id"] == job_id


async def test_what_modules_print_at_import_is_passed_on(tmp_path: Path) -> None:
    async with Daemon(tmp_path, jobs=JOBS + "\nprint('imported')\nprint('no newline', end='')\n") as daemon:
        await daemon.eventually(lambda: "imported" in daemon.log.tail(200))
        assert not daemon.log.find("printed")


async def test_a_hundred_megabytes_of_lines_end_and_stay_out_of_memory(tmp_path: Path) -> None:
    async with running(tmp_path) as (daemon, app):
        pids = {"master": daemon.pid, "worker": await daemon.pid_of("default/1")}
        await printed_by(daemon, await app.enqueue("say"), 1)
        before = {name: resident_kib(pid) for name, pid in pids.items()}
        await app.enqueue("flood", args={"lines": 12_500, "size": 8_000})
        await daemon.eventually(lambda: "12499 x" in end_of(daemon), timeout_s=60, message="the flood has ended")
        assert daemon.log.path.stat().st_size > 100_000_000
        grown = {name: resident_kib(pid) - before[name] for name, pid in pids.items()}
        assert max(grown.values()) < 20_000, grown


async def test_a_flood_is_told_to_its_follower_or_said_to_be_lost(tmp_path: Path) -> None:
    count = 30_000
    async with running(tmp_path) as (daemon, app), Follower(daemon, "logs", "--follow") as follower:
        job_id = await app.enqueue("flood", args={"lines": count, "size": 200})
        told = lost = 0
        numbers = []
        while told + lost < count:
            entry = await follower.entry()
            if entry["event"] == "lines_lost":
                lost += entry["lost"]
            elif entry.get("job_id") == job_id:
                told += 1
                numbers.append(int(entry["message"].split()[0]))
        assert told + lost == count
        assert numbers == sorted(numbers)
        assert told > 0


async def test_a_follower_that_reads_nothing_holds_up_nobody(tmp_path: Path) -> None:
    async with running(tmp_path) as (daemon, app):
        with socket.socket(socket.AF_UNIX) as stuck:
            stuck.connect(str(daemon.socket))
            stuck.sendall(b'{"protocol": 1, "id": 1, "command": "logs", "params": {}}\n')
            await daemon.eventually(lambda: _status_says(daemon, "followers", 1))
            await app.enqueue("flood", args={"lines": 40_000, "size": 500})
            assert await _longest_answer_s(daemon, until=lambda: "39999 x" in end_of(daemon)) < 2
            await printed_by(daemon, await app.enqueue("say"), 1)
        await daemon.eventually(lambda: _status_says(daemon, "followers", 0))


async def test_a_follower_that_dies_is_forgotten(tmp_path: Path) -> None:
    async with running(tmp_path) as (daemon, app):
        async with Follower(daemon, "logs", "--follow") as follower:
            await app.enqueue("say")
            await follower.entry(message="hello")
            follower.process.kill()
            await daemon.eventually(lambda: _status_says(daemon, "followers", 0))
        await printed_by(daemon, await app.enqueue("say"), 1)


async def test_ctrl_c_ends_following(tmp_path: Path) -> None:
    async with running(tmp_path) as (daemon, app), Follower(daemon, "logs", "--follow") as follower:
        await app.enqueue("say")
        await follower.entry(message="hello")
        follower.interrupt()
        await follower.rest()
        assert await follower.process.wait() == 0
        assert await follower.errors() == ""


async def test_head_ends_following(tmp_path: Path) -> None:
    async with running(tmp_path) as (daemon, app):
        command = f"{BIN / 'soniqctl'} -c {daemon.config} logs --follow | head -1"
        process = await asyncio.create_subprocess_shell(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        await daemon.eventually(lambda: _status_says(daemon, "followers", 1))
        await app.enqueue("say")
        output, errors = await asyncio.wait_for(process.communicate(), 20)
        assert re.search(r"INFO    default/1\[\d+\] [0-9a-f-]{36} stdout: hello\n$", output.decode())
        assert errors == b""
        await daemon.eventually(lambda: _status_says(daemon, "followers", 0))


async def test_the_end_of_the_daemon_is_followed_to_the_last_line(tmp_path: Path) -> None:
    async with running(tmp_path) as (daemon, _), Follower(daemon, "logs", "--follow") as follower:
        daemon.signal(signal.SIGTERM)
        assert (await follower.rest())[-1]["event"] == "daemon_stopped"
        assert await follower.errors() == "soniqd has stopped\n"
        await daemon.exit_code()


async def test_an_upgrade_is_followed_through(tmp_path: Path) -> None:
    async with running(tmp_path) as (daemon, app), Follower(daemon, "logs", "--follow") as follower:
        await daemon.soniqctl("upgrade")
        await daemon.eventually(lambda: _status_says(daemon, "followers", 1))
        await app.enqueue("say")
        await follower.entry(message="hello")


def end_of(daemon: Daemon) -> str:
    """The last lines of a log that may be long."""
    with daemon.log.path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 20_000))
        return file.read().decode(errors="replace")


def resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise AssertionError(f"{pid} is gone")


async def _status_says(daemon: Daemon, key: str, value: Any) -> bool:
    try:
        return bool((await daemon.status())[key] == value)
    except OSError:  # between two images
        return False


async def _longest_answer_s(daemon: Daemon, *, until: Any) -> float:
    longest = 0.0
    async with asyncio.timeout(60):
        while not until():
            began = time.monotonic()
            await daemon.status()
            longest = max(longest, time.monotonic() - began)
            await asyncio.sleep(0.05)
    return longest
