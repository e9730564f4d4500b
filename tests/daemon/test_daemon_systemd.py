"""What a daemon tells its service manager, what it takes from it, and how its processes are called."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import BIN, JOBS, Daemon
from tests.support.installation import Installation
from tests.support.processes import find_process
from tests.support.waiting import eventually

REPORTING = (
    JOBS
    + """

@app.job(name="environ")
async def environ(path: str):
    pathlib.Path(path + ".new").write_text("\\n".join(os.environ))
    os.rename(path + ".new", path)
"""
)

PASSING = """
import os, socket, sys

listening = socket.socket(socket.AF_UNIX)
listening.bind(os.environ.pop("TEST_SOCKET"))
listening.listen()
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="soniqd.socket")
os.execv(sys.argv[1], sys.argv[1:])
"""
"""What systemd does for a service with a socket unit."""

BREAKING = """
import os, sys
from soniqd.cli.soniqd import main
from soniqd.policy.supervision.life import ChildLife

def ticks(self, event, now_s, *, going=ChildLife.ticks):
    if os.path.exists(os.environ["TEST_BREAK"]):
        raise RuntimeError("on purpose")
    going(self, event, now_s)

ChildLife.ticks = ticks
sys.exit(main())
"""
"""A soniqd whose supervision can be made to fail while its loop goes on."""


class ServiceManager:
    """The receiving end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)
        self.heard: list[dict[str, str]] = []
        asyncio.get_running_loop().add_reader(self._socket, self.listen)

    def listen(self) -> list[dict[str, str]]:
        while True:
            try:
                datagram = self._socket.recv(4096).decode()
            except BlockingIOError:
                return self.heard
            self.heard.append(dict(line.split("=", 1) for line in datagram.splitlines()))

    def said(self, name: str) -> int:
        return sum(name in datagram for datagram in self.listen())

    def order(self, *names: str) -> list[str]:
        return [name for datagram in self.listen() for name in datagram if name in names]

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


@pytest.fixture
async def manager(tmp_path):
    manager = ServiceManager(tmp_path / "notify")
    yield manager
    manager.close()


def watched(manager: ServiceManager, timeout_s: float, **environ: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": str(int(timeout_s * 1_000_000)), **environ}


def passing(path: Path) -> dict[str, Any]:
    """What makes a daemon one whose control socket is passed to it."""
    return {
        "program": (sys.executable, "-c", PASSING, str(BIN / "soniqd")),
        "environ": {"TEST_SOCKET": str(path)},
    }


# -- its states


async def test_ready_status_and_stopping_reach_the_service_manager_in_order(tmp_path, manager):
    async with Daemon(tmp_path, environ={"NOTIFY_SOCKET": manager.address}) as daemon:
        await daemon.eventually(lambda: manager.said("READY"))
        await daemon.eventually(lambda: any("2 children" in d.get("STATUS", "") for d in manager.listen()))
        ready = next(datagram for datagram in manager.heard if "READY" in datagram)
        assert ready["MAINPID"] == str(daemon.pid)
        assert manager.said("STOPPING") == 0
        await daemon.stop()
    assert manager.order("READY", "STOPPING") == ["READY", "STOPPING"]


async def test_a_slow_start_asks_for_time_before_it_is_ready(tmp_path, manager):
    gate = tmp_path / "gate"
    slow = f"{JOBS}\nwhile not os.path.exists({str(gate)!r}):\n    time.sleep(0.01)\n"

    async def open_the_gate() -> None:
        await eventually(lambda: manager.said("EXTEND_TIMEOUT_USEC"))
        gate.touch()

    opening = asyncio.create_task(open_the_gate())
    async with Daemon(tmp_path, jobs=slow, environ={"NOTIFY_SOCKET": manager.address}) as daemon:
        await daemon.eventually(lambda: manager.said("READY"))
        await opening
    assert manager.order("READY", "EXTEND_TIMEOUT_USEC")[:1] == ["EXTEND_TIMEOUT_USEC"]
    assert "importing the jobs modules" in next(d["STATUS"] for d in manager.heard if "STATUS" in d)


@pytest.mark.parametrize("source", [JOBS + "\n", "import nothing_there"], ids=["done", "refused"])
async def test_a_reload_is_announced_with_its_start_time_and_its_end_however_it_ends(tmp_path, manager, source):
    async with Daemon(tmp_path, environ={"NOTIFY_SOCKET": manager.address}) as daemon:
        await daemon.eventually(lambda: manager.said("READY"))
        daemon.write_jobs(source)
        daemon.signal(signal.SIGHUP)
        await daemon.eventually(lambda: manager.said("READY") == 2, message=f"{manager.heard}")
        assert manager.order("READY", "RELOADING") == ["READY", "RELOADING", "READY"]
        reloading = next(datagram for datagram in manager.heard if "RELOADING" in datagram)
        assert int(reloading["MONOTONIC_USEC"]) > 0


async def test_a_configuration_that_cannot_be_read_ends_the_reload_at_once(tmp_path, manager):
    async with Daemon(tmp_path, environ={"NOTIFY_SOCKET": manager.address}) as daemon:
        await daemon.eventually(lambda: manager.said("READY"))
        daemon.config.write_text("[soniqd]\nnonsense = 1\n")
        daemon.signal(signal.SIGHUP)
        await daemon.log_event("reload_failed")
        await daemon.eventually(lambda: manager.order("READY", "RELOADING") == ["READY", "RELOADING", "READY"])


async def test_a_probation_is_told_and_gets_the_time_that_it_takes(tmp_path, manager):
    probing = {"probation": 60}
    async with Daemon(tmp_path, environ={"NOTIFY_SOCKET": manager.address}, soniqd=probing) as daemon:
        await daemon.eventually(lambda: manager.said("READY"))
        manager.heard.clear()
        daemon.write_jobs(JOBS + "\n")
        daemon.signal(signal.SIGHUP)
        await daemon.eventually(lambda: any("on probation" in d.get("STATUS", "") for d in manager.listen()))
        await daemon.eventually(lambda: manager.said("EXTEND_TIMEOUT_USEC") >= 2, timeout_s=20)
        assert manager.order("READY", "RELOADING") == ["RELOADING"]
        await daemon.stop(timeout_s=30)
    assert manager.order("READY", "STOPPING") == ["READY", "STOPPING"]


async def test_a_drain_is_told_and_gets_the_time_that_it_takes(tmp_path, manager):
    async with Daemon(tmp_path, environ={"NOTIFY_SOCKET": manager.address}) as daemon:
        await daemon.soniqctl("enqueue", "sleep", "--args", json.dumps({"seconds": 4}))
        await daemon.eventually(lambda: any("1 job running" in d.get("STATUS", "") for d in manager.listen()))
        manager.heard.clear()
        await daemon.stop()
    assert manager.order("STOPPING", "EXTEND_TIMEOUT_USEC")[:2] == ["STOPPING", "EXTEND_TIMEOUT_USEC"]
    assert any(d.get("STATUS") == "draining: 1 child, 1 job running" for d in manager.heard)


async def test_an_upgrade_is_a_reload_of_the_same_main_process(tmp_path, manager):
    async with Daemon(tmp_path, environ=watched(manager, 60)) as daemon:
        await daemon.eventually(lambda: manager.said("READY"))
        manager.heard.clear()
        daemon.signal(signal.SIGUSR2)
        await daemon.log_event("upgrade_done")
        await daemon.eventually(lambda: manager.said("READY"))
        await daemon.eventually(lambda: manager.said("WATCHDOG"))
        assert manager.order("RELOADING", "READY") == ["RELOADING", "READY"]
        assert next(d["MAINPID"] for d in manager.heard if "READY" in d) == str(daemon.pid)


# -- the watchdog


async def test_a_supervision_that_goes_round_feeds_the_watchdog_in_time(tmp_path, manager):
    async with Daemon(tmp_path, environ=watched(manager, 1.0)) as daemon:
        loop = asyncio.get_running_loop()
        fed: list[float] = []

        def heard() -> bool:
            fed.extend([loop.time()] * (manager.said("WATCHDOG") - len(fed)))
            return len(fed) >= 8

        await daemon.eventually(heard)
    pauses = sorted(later - earlier for earlier, later in itertools.pairwise(fed))
    assert pauses[len(pauses) // 2] < 0.6


async def test_a_supervision_that_fails_feeds_no_watchdog_though_its_loop_goes_on(tmp_path, manager):
    broken = tmp_path / "broken"
    async with Daemon(
        tmp_path,
        program=(sys.executable, "-c", BREAKING),
        environ=watched(manager, 0.8, TEST_BREAK=str(broken)),
    ) as daemon:
        await daemon.eventually(lambda: manager.said("WATCHDOG") > 2)
        broken.touch()
        failed = await daemon.log_event("duty_failed")
        assert "hung" in failed["duty"]
        manager.listen()
        manager.heard.clear()
        for _ in range(3):  # more than one timeout later, it still answers
            await daemon.log_event("duty_failed", since=daemon.log.mark())
        assert (await daemon.status())["state"] == "running"
        assert manager.said("WATCHDOG") == 0


async def test_another_process_watchdog_is_not_fed(tmp_path, manager):
    async with Daemon(tmp_path, environ=watched(manager, 0.4, WATCHDOG_PID="1")) as daemon:
        await daemon.eventually(lambda: any("2 children" in d.get("STATUS", "") for d in manager.listen()))
        assert manager.said("WATCHDOG") == 0


async def test_the_watchdog_of_this_very_process_is_fed(tmp_path, manager):
    program = ("/bin/sh", "-c", f'WATCHDOG_PID=$$ exec {BIN / "soniqd"} "$@"', "sh")
    async with Daemon(tmp_path, program=program, environ=watched(manager, 2)) as daemon:
        await daemon.eventually(lambda: manager.said("WATCHDOG"))


# -- what is the master's alone


async def test_jobs_see_nothing_of_the_talk_with_the_manager_also_after_an_upgrade(tmp_path, manager):
    environ = watched(manager, 60, LISTEN_FDS="1", LISTEN_PID="1", LISTEN_FDNAMES="x")
    async with Daemon(tmp_path, jobs=REPORTING, environ=environ) as daemon:
        for number in (1, 2):
            seen = tmp_path / f"seen{number}"
            await daemon.soniqctl("enqueue", "environ", "--args", json.dumps({"path": str(seen)}))
            await daemon.eventually(seen.exists)
            names = seen.read_text().splitlines()
            assert "PATH" in names
            assert [name for name in names if name.startswith(("NOTIFY_", "WATCHDOG_", "LISTEN_"))] == []
            await daemon.soniqctl("upgrade")
            await daemon.soniqctl("reload", "--all")


# -- the control socket as systemd passes it


async def test_a_passed_socket_is_the_control_socket_and_stays_where_it_is(tmp_path):
    path = tmp_path / "soniqd.sock"
    async with Daemon(tmp_path, **passing(path)) as daemon:
        inode = path.stat().st_ino
        assert (await daemon.status())["pid"] == daemon.pid
        await daemon.soniqctl("upgrade")
        assert (await daemon.status())["upgrades"] == 1
        assert path.stat().st_ino == inode
    assert path.stat().st_ino == inode


async def test_a_daemon_that_has_to_start_anew_still_has_the_socket_that_was_passed(tmp_path):
    installation, options = Installation(tmp_path / "site"), passing(tmp_path / "soniqd.sock")
    options["environ"] |= installation.environ
    async with Daemon(tmp_path, **options) as daemon:
        installation.replace(
            "supervisor/takeover.py",
            "    master.upgrades = handover.upgrades + 1\n",
            "    raise RuntimeError('on purpose')\n",
        )
        assert "starts anew" in await daemon.refusal("upgrade")
        await daemon.ready()
        assert (await daemon.status())["pid"] == daemon.pid


async def test_a_passed_socket_at_another_place_is_refused_with_what_to_do(tmp_path):
    daemon = Daemon(tmp_path, **passing(tmp_path / "other.sock"))
    daemon.start()
    assert await daemon.exit_code() == 78
    said = daemon.log.path.read_text()
    assert f"write ListenStream={tmp_path / 'soniqd.sock'} into soniqd.socket" in said


# -- its processes


async def test_every_process_is_named_for_what_it_is(tmp_path):
    async with Daemon(tmp_path, workers={"name": "mail", "processes": 2}) as daemon:
        titles = {
            "soniqd: fork server gen 1",
            "soniqd: scheduler [leading]",
            "soniqd: worker mail/1 [idle]",
            "soniqd: worker mail/2 [idle]",
        }
        await daemon.eventually(lambda: {process.command for process in daemon.processes()} == titles)
        master = find_process(daemon.pid)
        assert master is not None
        assert master.command == f"soniqd: master {daemon.config}"


async def test_usr1_writes_the_state_to_the_log(tmp_path):
    async with Daemon(tmp_path) as daemon:
        daemon.signal(signal.SIGUSR1)
        record = await daemon.log_event("state_dumped")
        assert '"generation": 1' in record["state"]
