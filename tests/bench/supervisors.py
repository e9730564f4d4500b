"""soniqd beside gunicorn and supervisord, where they do the same: ``python -m tests.bench.supervisors [--rounds N]``.

``restart``  a worker is killed with SIGKILL: until the next one has imported the application and is ready
``reload``   the application's code has changed: until every worker is a new one, and the fewest there were meanwhile
``stop``     every worker is busy for ten minutes: how long beyond a deadline of three seconds until nothing is left

All keep eight workers of the same application, 30 MiB once imported, and run at the same time; each thing is measured
in turns, in random order. gunicorn comes twice: with --preload it forks what it has imported, and cannot reload.
supervisord knows no rolling reload: what it has instead, ``supervisorctl restart all``, is measured. The two are
installed from PyPI into an environment of this benchmark's own; what cannot be had is left out, with a note.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from soniqd import Soniq
from soniqd.control.client import ControlClient
from tests.bench.tables import markdown, spread
from tests.support.daemon import Daemon
from tests.support.postgres import PostgresServer
from tests.support.processes import Process, all_processes, find_process
from tests.support.waiting import eventually

WORKERS = 8
DEADLINE_S = 3
KILLS = 4
"""Kills in each round: few enough that nobody's backoff begins."""
PATIENCE_S = 120.0
_PAUSE_S = 0.002

WORK = """
import os, time

ROWS = [{"id": i, "name": f"row number {i}"} for i in range(90_000)]


def ready():
    fd = os.open(os.environ["READY"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f"{os.getpid()} {time.monotonic()}\\n".encode())
    os.close(fd)
"""

WEB = """
import time
import work


def application(environ, start_response):
    if environ["PATH_INFO"] == "/hold":
        time.sleep(600)
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
"""

PROGRAM = """
import os, signal, time
import work

signal.signal(signal.SIGTERM, lambda *_: None if os.path.exists("hold") else os._exit(0))
work.ready()
while True:
    time.sleep(600)
"""

JOBS = """
import time
import work
from soniqd import Soniq

app = Soniq()


@app.job(name="hold")
def hold():
    time.sleep(600)
"""

GUNICORN = """
bind = "unix:web.sock"
workers = {workers}
graceful_timeout = {deadline_s}
timeout = 900
preload_app = {preload}


def post_worker_init(worker):
    import work
    work.ready()
"""

SUPERVISOR = """
[supervisord]
nodaemon = true
logfile = {folder}/supervisord.log
pidfile = {folder}/supervisord.pid
childlogdir = {folder}
[unix_http_server]
file = {folder}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl = unix://{folder}/supervisor.sock
[program:work]
command = {python} program.py
directory = {folder}
process_name = %(program_name)s_%(process_num)d
numprocs = {workers}
stopwaitsecs = {deadline_s}
"""


class Contestant(Protocol):
    """Somebody who keeps eight workers."""

    name: str
    reloads: bool

    async def start(self) -> None: ...

    def ready(self) -> dict[int, float]:
        """When each worker that there ever was became ready, by the monotonic clock."""

    async def reload(self) -> None:
        """Ask for workers with the code that is on the disk now; may return before they are there."""

    async def hold(self) -> None:
        """Make every worker busy."""

    def terminate(self) -> None:
        """Ask it to stop within the deadline."""

    def left(self) -> list[Process]:
        """What still runs of it."""

    async def close(self) -> None:
        """End whatever is left."""


class Foreign:
    """What gunicorn and supervisord have in common: a session of their own, workers that say that they are ready."""

    reloads = True

    def __init__(self, name: str, folder: Path, command: list[str]) -> None:
        self.name = name
        self._folder = folder
        self._command = command
        self._master: subprocess.Popen[bytes] | None = None
        folder.mkdir(exist_ok=True)
        (folder / "work.py").write_text(WORK)

    async def start(self) -> None:
        self._start()

    def _start(self) -> None:
        self._ready_file.unlink(missing_ok=True)
        (self._folder / "hold").unlink(missing_ok=True)
        with (self._folder / "log").open("ab") as log:
            self._master = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=os.environ | {"READY": str(self._ready_file), "PYTHONPATH": str(self._folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def ready(self) -> dict[int, float]:
        lines = self._ready_file.read_text().splitlines() if self._ready_file.exists() else []
        return {int(pid): float(at_s) for pid, at_s in (line.split() for line in lines)}

    async def reload(self) -> None:
        self._started.send_signal(signal.SIGHUP)

    def terminate(self) -> None:
        self._started.send_signal(signal.SIGTERM)

    def left(self) -> list[Process]:
        self._started.poll()
        known = {pid: find_process(pid) for pid in self.ready()}
        session = [process for process in all_processes() if process.session == self._started.pid]
        ours = {process.pid: process for process in (*session, *known.values()) if process is not None}
        return [process for process in ours.values() if process.state not in "ZX"]

    async def close(self) -> None:
        if self._master is not None:
            for process in self.left():
                process.kill()
            self._master.wait()

    @property
    def _ready_file(self) -> Path:
        return self._folder / "ready"

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        assert self._master is not None
        return self._master


class Gunicorn(Foreign):
    """Synchronous workers, reloaded by SIGHUP."""

    def __init__(self, folder: Path, binaries: Path, *, preload: bool) -> None:
        name = "gunicorn --preload" if preload else "gunicorn"
        super().__init__(name, folder, [str(binaries / "gunicorn"), "-c", "settings.py", "web:application"])
        self.reloads = not preload
        settings = GUNICORN.format(workers=WORKERS, deadline_s=DEADLINE_S, preload=preload)
        (folder / "settings.py").write_text(settings)
        (folder / "web.py").write_text(WEB)
        self._requests: list[socket.socket] = []

    async def hold(self) -> None:
        for _ in range(WORKERS):
            request = socket.socket(socket.AF_UNIX)
            request.connect(str(self._folder / "web.sock"))
            request.sendall(b"GET /hold HTTP/1.1\r\nHost: here\r\n\r\n")
            self._requests.append(request)
            await asyncio.sleep(0.3)  # for one worker to take it, so that the next one goes to another

    async def close(self) -> None:
        for request in self._requests:
            request.close()
        self._requests.clear()
        await super().close()


class Supervisor(Foreign):
    """Processes that it starts, and starts again."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        super().__init__("supervisord", folder, [str(binaries / "supervisord"), "-c", "supervisord.conf"])
        self._control = [str(binaries / "supervisorctl"), "-c", str(folder / "supervisord.conf")]
        (folder / "program.py").write_text(PROGRAM)
        settings = SUPERVISOR.format(folder=folder, python=binaries / "python", workers=WORKERS, deadline_s=DEADLINE_S)
        (folder / "supervisord.conf").write_text(settings)

    async def reload(self) -> None:
        restart = await asyncio.create_subprocess_exec(
            *self._control, "restart", "all", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await restart.wait()

    async def hold(self) -> None:
        (self._folder / "hold").touch()


class Ours:
    """soniqd, whose log tells when each worker is ready."""

    name = "soniqd"
    reloads = True

    def __init__(self, folder: Path, url: str) -> None:
        folder.mkdir(exist_ok=True)
        self._url = url
        group = {"processes": WORKERS, "concurrency": 1, "drain_timeout": DEADLINE_S}
        self._daemon = Daemon(folder, jobs=JOBS, database_url=url, workers=group, scheduler={"enabled": False})
        self._daemon.write_jobs(WORK, module="work")

    async def start(self) -> None:
        await self._daemon.soniqctl("setup")
        self._daemon.start()

    def ready(self) -> dict[int, float]:
        offset_s = time.time() - time.monotonic()
        records = self._daemon.log.find("child_ready")
        return {record["pid"]: datetime.fromisoformat(record["ts"]).timestamp() - offset_s for record in records}

    async def reload(self) -> None:
        client = ControlClient(self._daemon.socket)
        await asyncio.to_thread(client.call, "reload", timeout_s=PATIENCE_S)

    async def hold(self) -> None:
        async with Soniq(database_url=self._url, enqueue_validation="none", pool_min_size=1) as app:
            await app.enqueue_many("hold", [{}] * WORKERS)

        async def all_busy() -> bool:
            return sum(child["in_flight"] for child in (await self._daemon.status())["children"]) == WORKERS

        await eventually(all_busy, timeout_s=PATIENCE_S)

    def terminate(self) -> None:
        self._daemon.signal(signal.SIGTERM)

    def left(self) -> list[Process]:
        master = find_process(self._daemon.pid) if self._daemon.running else None
        return [*self._daemon.processes(), *([master] if master else [])]

    async def close(self) -> None:
        for process in self.left():
            process.kill()
        await self._daemon.gone()
        async with Soniq(database_url=self._url, enqueue_validation="none", pool_min_size=1) as app:
            await app.backend.reset()


class Figures:
    """What was measured of one contestant."""

    def __init__(self) -> None:
        self.restart_ms: list[float] = []
        self.reload_s: list[float] = []
        self.fewest: list[float] = []
        self.stop_over_ms: list[float] = []


async def measure_restart(contestant: Contestant, source: random.Random) -> float:
    """Kill a worker; return the milliseconds until the next one is ready."""
    before = _alive(contestant)
    killed_at = time.monotonic()
    os.kill(source.choice(sorted(before)), signal.SIGKILL)

    def successors() -> list[float]:
        return [at_s for pid, at_s in contestant.ready().items() if pid not in before and at_s >= killed_at]

    await _until(lambda: bool(successors()))
    return 1000 * (min(successors()) - killed_at)


async def measure_reload(contestant: Contestant, touch: Callable[[], None]) -> tuple[float, int]:
    """Replace every worker; return seconds, and the fewest workers that were there at any time."""
    touch()
    before, began_s = _alive(contestant), time.monotonic()
    fewest = len(before)
    asking = asyncio.create_task(contestant.reload())
    while True:
        now = _alive(contestant)
        fewest = min(fewest, len(now))
        if asking.done() and not now & before and len(now) >= WORKERS:
            break
        if time.monotonic() - began_s > PATIENCE_S:
            raise AssertionError(f"{contestant.name} did not reload within {PATIENCE_S:g} s")
        await asyncio.sleep(_PAUSE_S)
    await asking
    return time.monotonic() - began_s, fewest


async def measure_stop(contestant: Contestant) -> float:
    """Stop with busy workers; return the milliseconds beyond the deadline until nothing is left."""
    await contestant.hold()
    began_s = time.monotonic()
    contestant.terminate()
    await _until(lambda: not contestant.left())
    return 1000 * (time.monotonic() - began_s - DEADLINE_S)


def _alive(contestant: Contestant) -> set[int]:
    found = {pid: find_process(pid) for pid in contestant.ready()}
    return {pid for pid, process in found.items() if process is not None and process.state not in "ZX"}


def _is_full(contestant: Contestant) -> bool:
    return len(_alive(contestant)) >= WORKERS


async def _until(predicate: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not predicate():
        if time.monotonic() > end:
            raise AssertionError(f"not true within {PATIENCE_S:g} s")
        await asyncio.sleep(_PAUSE_S)


async def play_round(contestants: list[Contestant], figures: dict[str, Figures], folder: Path, source: random.Random):
    """Start all, measure all in turns, and end all."""
    async with AsyncExitStack() as stack:
        for contestant in contestants:
            stack.push_async_callback(contestant.close)
            await contestant.start()
        for contestant in contestants:
            await _until(partial(_is_full, contestant))
        for _ in range(KILLS):
            for contestant in source.sample(contestants, k=len(contestants)):
                figures[contestant.name].restart_ms.append(await measure_restart(contestant, source))
        for contestant in source.sample(contestants, k=len(contestants)):
            if contestant.reloads:
                seconds, fewest = await measure_reload(contestant, lambda: _change(folder))
                figures[contestant.name].reload_s.append(seconds)
                figures[contestant.name].fewest.append(fewest)
        for contestant in source.sample(contestants, k=len(contestants)):
            figures[contestant.name].stop_over_ms.append(await measure_stop(contestant))


def _change(folder: Path) -> None:
    """Deploy: the application's module gets another content, in every copy."""
    for module in folder.glob("*/work.py"):
        module.write_text(f"{WORK}\nVERSION = {time.monotonic_ns()}\n")


def install(folder: Path) -> Path | None:
    """Return the folder of the two programs in a new environment; None if they cannot be had."""
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
        command = [str(folder / "bin" / "pip"), "install", "--quiet", "gunicorn", "supervisor", "setuptools"]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"gunicorn and supervisord are left out, they cannot be installed: {error}")
        return None
    return folder / "bin"


def _versions(binaries: Path) -> str:
    listed = subprocess.run([str(binaries / "pip"), "list", "--format=freeze"], check=True, capture_output=True)
    wanted = ("gunicorn==", "supervisor==")
    return ", ".join(line for line in listed.stdout.decode().splitlines() if line.startswith(wanted))


def table(figures: dict[str, Figures]) -> str:
    """Word what was measured."""
    rows = []
    for name, it in figures.items():
        stop = spread(it.stop_over_ms)
        fewest = f"{min(it.fewest):.0f} of {WORKERS}" if it.fewest else "-"
        rows.append([name, spread(it.restart_ms), spread(it.reload_s, digits=2), fewest, stop])
    head = ["", "restart after kill -9, ms", "reload, s", "fewest workers meanwhile", "stop: ms over 3 s"]
    return markdown(head, rows)


def main(arguments: list[str]) -> int:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.supervisors")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    server = PostgresServer()
    server.start()
    try:
        with tempfile.TemporaryDirectory(prefix="soniqd-peers-") as name:
            folder = Path(name)
            binaries = install(folder / "venv")
            contestants: list[Contestant] = [Ours(folder / "soniqd", server.url(server.create_database()))]
            if binaries is not None:
                print(f"beside {_versions(binaries)}")
                contestants += [
                    Gunicorn(folder / "gunicorn", binaries, preload=False),
                    Gunicorn(folder / "preload", binaries, preload=True),
                    Supervisor(folder / "supervisor", binaries),
                ]
            figures = {contestant.name: Figures() for contestant in contestants}
            source = random.Random(options.seed)
            for _ in range(options.rounds):
                asyncio.run(play_round(contestants, figures, folder, source))
    finally:
        server.close()
    kills = options.rounds * KILLS
    print(f"{kills} kills, {options.rounds} reloads and stops of each; median (least to most)\n")
    print(table(figures))
    return 0


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
