"""A real ``soniqd`` in a folder of its own, for tests that read as prose.

    async with Daemon(tmp_path, workers={"processes": 2}) as daemon:
        mark = daemon.log.mark()
        killed = await daemon.kill("default/1")
        await daemon.log_event("child_died", pid=killed)
        await daemon.log_event("child_ready", since=mark, slot="default/1")

At the end of the block the master is told to leave, and nothing of it runs any more, whatever happened: a process that
has to be killed then fails the test.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tomli_w

from soniqd.control.codec import decode_response, encode_request
from soniqd.control.message import Failed, Request, Succeeded
from tests.support.daemon_log import DaemonLog, LogRecord
from tests.support.processes import Process, all_processes, descendants, find_process, runs_in
from tests.support.waiting import eventually, eventually_sync

BIN = Path(sys.executable).parent
DRAIN_TIMEOUT_S = 5.0
UP = frozenset({"running", "leading", "following"})
"""What a child's state is once it works."""

JOBS = '''
import asyncio, os, pathlib, time
from soniqd import JobContext, Soniq

app = Soniq()


@app.job(name="noop")
async def noop():
    pass


@app.job(name="sleep")
async def sleep(seconds: float = 60.0):
    await asyncio.sleep(seconds)


@app.job(name="block")
def block(seconds: float = 60.0):
    time.sleep(seconds)


@app.job(name="append")
async def append(path: str, text: str = "x"):
    """One write(2) for each run, so that runs can be counted."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f"{text} {os.getpid()} {time.time()}\\n".encode())
    os.close(fd)


@app.job(name="fail", retries=0)
async def fail(message: str = "failed on purpose"):
    raise RuntimeError(message)
'''
"""A jobs module that serves most tests."""


class Daemon:
    """One soniqd: its configuration, its process tree, its log and its control socket."""

    patience_s = DRAIN_TIMEOUT_S + 15
    """How long everything may take to leave."""

    def __init__(
        self,
        folder: Path,
        *,
        jobs: str = JOBS,
        database_url: str | None = None,
        environ: Mapping[str, str] | None = None,
        program: Sequence[str] = (str(BIN / "soniqd"),),
        **tables: Any,
    ) -> None:
        """``tables`` are merged into the generated soniq.toml: ``workers={"processes": 2}`` or a list of groups."""
        self.folder = folder
        self.database_url = database_url or f"sqlite:///{folder / 'jobs.db'}"
        self.config = folder / "soniq.toml"
        self.socket = folder / "soniqd.sock"
        self.log = DaemonLog(folder / "soniqd.log")
        self._environ = dict(environ or {})
        self._program = program
        self._masters: list[subprocess.Popen[bytes]] = []
        self._seen: dict[tuple[int, int], Process] = {}
        self.write_jobs(jobs)
        self.write_config(**tables)

    # -- its files

    def write_jobs(self, source: str, *, module: str = "test_jobs") -> None:
        """Replace a jobs module, as a deploy does."""
        (self.folder / f"{module}.py").write_text(textwrap.dedent(source))

    def write_config(self, **tables: Any) -> None:
        """Replace soniq.toml."""
        document: dict[str, Any] = {
            "soniqd": {
                "socket": str(self.socket),
                "log_format": "json",
                "drain_timeout": DRAIN_TIMEOUT_S,
                "probation": 0,
            },
            "database": {"url": self.database_url},
            "jobs": {"modules": ["test_jobs"], "path": [str(self.folder)]},
            "workers": [{}],
        }
        for table, values in tables.items():
            if table == "workers":
                document["workers"] = [values] if isinstance(values, Mapping) else list(values)
            elif isinstance(values, Mapping):
                document[table] = {**document.get(table, {}), **values}
            else:
                document[table] = values
        self.config.write_text(tomli_w.dumps(document))

    # -- its life

    async def __aenter__(self) -> Self:
        try:
            await self.soniqctl("setup")
            self.start()
            await self.ready()
        except BaseException:
            self._end_everything()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"the daemon's log ends:\n{self.log.tail()}")
            self._end_everything()
            return
        if self.running:
            self.signal(signal.SIGTERM)
        try:
            await self.gone()
        finally:
            self._end_everything()

    def start(self) -> None:
        """Start a master; a second call, after the first one's end, starts the next one in the same folder."""
        with self.log.path.open("ab") as log:
            master = subprocess.Popen(
                [*self._program, "-c", str(self.config)],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._masters.append(master)

    async def ready(self, *, timeout_s: float = 20) -> None:
        """Wait until it answers, has met its database, and every child is up."""

        async def all_up() -> bool:
            if self._master.poll() is not None:
                raise AssertionError(f"soniqd ended with {self._master.returncode}:\n{self.log.tail()}")
            try:
                status = await self.status()
            except OSError:
                return False
            children = status["children"]
            return status["database"] == "up" and bool(children) and all(child["state"] in UP for child in children)

        await self.eventually(all_up, timeout_s=timeout_s)

    async def stop(self, sig: signal.Signals = signal.SIGTERM, *, timeout_s: float | None = None) -> int:
        """Ask the master to leave, and return its exit code."""
        self.signal(sig)
        return await self.exit_code(timeout_s=timeout_s)

    async def exit_code(self, *, timeout_s: float | None = None) -> int:
        """Wait for the master's end."""
        await self.eventually(lambda: not self.running, timeout_s=timeout_s or self.patience_s)
        return int(self._master.returncode)

    async def gone(self, *, timeout_s: float | None = None) -> None:
        """Wait until no process of this daemon is left, orphans included."""
        await self.eventually(
            lambda: not self.running and not self.processes(),
            timeout_s=timeout_s or self.patience_s,
            message="every process of the daemon is gone",
        )

    @property
    def running(self) -> bool:
        return bool(self._masters) and self._master.poll() is None

    @property
    def pid(self) -> int:
        """The master's."""
        return self._master.pid

    @property
    def _master(self) -> subprocess.Popen[bytes]:
        return self._masters[-1]

    # -- what it says

    async def log_event(self, event: str, *, since: int = 0, timeout_s: float = 15, **fields: Any) -> LogRecord:
        """Wait for an event in the log; ``since`` is an earlier ``log.mark()``."""
        return await self.log.wait_for(event, since=since, timeout_s=timeout_s, **fields)

    async def eventually(self, predicate: Callable[[], Any], *, timeout_s: float = 15, message: str = "") -> Any:
        """Wait until something (sync or async) is true, and return it; a failure shows the log."""
        try:
            return await eventually(predicate, timeout_s=timeout_s, message=message)
        except AssertionError as error:
            error.add_note(f"the daemon's log ends:\n{self.log.tail()}")
            raise

    async def request(self, command: str, **params: Any) -> dict[str, Any]:
        """Speak to the control socket; raises AssertionError when the daemon refuses."""
        reader, writer = await asyncio.open_unix_connection(str(self.socket), limit=1 << 21)
        try:
            writer.write(encode_request(Request(1, command, params)))
            response = decode_response(await asyncio.wait_for(reader.readline(), 15))
        finally:
            writer.close()
        refusal = response if isinstance(response, Failed) else None
        assert refusal is None, f"{command} was refused: {refusal}"
        assert isinstance(response, Succeeded)
        return response.result

    async def status(self) -> dict[str, Any]:
        """What ``soniqctl status --json`` shows."""
        return await self.request("status")

    async def child(self, slot: str) -> dict[str, Any]:
        """One child of the status: the newest in its place, while an older one still drains."""
        children = [child for child in (await self.status())["children"] if child["slot"] == slot]
        assert children, f"no child {slot}"
        newest: dict[str, Any] = max(children, key=lambda child: (child["generation"], -child["uptime_s"]))
        return newest

    async def soniqctl(self, *arguments: str, expect: int = 0, timeout_s: float = 30) -> str:
        """Run soniqctl with this daemon's configuration, and return what it printed."""
        return (await self._soniqctl(arguments, expect, timeout_s))[0]

    async def refusal(self, *arguments: str, timeout_s: float = 30) -> str:
        """Run soniqctl, which has to end with exit code 1, and return what it complained about."""
        return (await self._soniqctl(arguments, 1, timeout_s))[1]

    async def _soniqctl(self, arguments: Sequence[str], expect: int, timeout_s: float) -> tuple[str, str]:
        process = await asyncio.create_subprocess_exec(
            str(BIN / "soniqctl"),
            "-c",
            str(self.config),
            *arguments,
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            output, errors = await asyncio.wait_for(process.communicate(), timeout_s)
        except BaseException:
            process.kill()
            await process.wait()
            raise
        if process.returncode != expect:
            raise AssertionError(
                f"soniqctl {' '.join(arguments)} ended with {process.returncode}, not {expect}:\n"
                f"{output.decode()}{errors.decode()}"
            )
        return output.decode(), errors.decode()

    async def soniqctl_json(self, *arguments: str, expect: int = 0) -> Any:
        """Run soniqctl --json and return what it printed, decoded."""
        return json.loads(await self.soniqctl("--json", *arguments, expect=expect))

    # -- its processes

    async def pid_of(self, slot: str) -> int:
        return int((await self.child(slot))["pid"])

    async def kill(self, slot: str, sig: signal.Signals = signal.SIGKILL) -> int:
        """Signal a child, and return its pid."""
        pid = await self.pid_of(slot)
        os.kill(pid, sig)
        return pid

    async def freeze(self, slot: str) -> int:
        """Stop a child with SIGSTOP, and return its pid once it stands still."""
        pid = await self.kill(slot, signal.SIGSTOP)
        await self.eventually(lambda: getattr(find_process(pid), "state", "gone") in ("T", "gone"))
        return pid

    def thaw(self, pid: int) -> None:
        """Let a frozen process go on."""
        os.kill(pid, signal.SIGCONT)

    def signal(self, sig: signal.Signals) -> None:
        """Signal the master."""
        self._master.send_signal(sig)

    def kill_master(self) -> int:
        """End the master with SIGKILL, and return its pid."""
        self._master.kill()
        self._master.wait()
        return self._master.pid

    def processes(self) -> list[Process]:
        """Everything alive that a master of this daemon started, orphans included, without the master itself."""
        sessions = {master.pid for master in self._masters}
        roots = {master.pid for master in self._masters if master.poll() is None}
        found = {process.pid: process for root in roots for process in descendants(root)}
        for process in all_processes():
            if process.state not in "ZX" and (process.session in sessions or runs_in(process, self.folder)):
                found[process.pid] = process
        self._seen |= {(process.pid, process.start_ticks): process for process in found.values()}
        alive = {process.pid: process for process in self._seen.values() if process.alive}
        return [process for pid, process in sorted(alive.items()) if pid not in roots]

    def _end_everything(self) -> None:
        """Kill the master and then, one by one, whatever it left."""
        left = self.processes() if self._masters else []
        if self.running:
            self._master.kill()
        for master in self._masters:
            master.wait()
        for process in [*left, *self.processes()]:
            process.kill()
        eventually_sync(lambda: not self.processes(), message="the daemon's processes are gone")

    def _environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SONIQ_", "NOTIFY_"))}
        return inherited | self._environ
