"""What a reload touches, what it says of it, and what it would do."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import JOBS, Daemon

GROUPS: list[dict[str, Any]] = [{"processes": 2}, {"name": "mail", "queues": ["mail"]}]
CHANGED = JOBS + "\nVERSION = 2\n"
SECOND_WAITS = """
import pathlib
import soniqd.roles.child
_make_worker = soniqd.roles.child.make_worker

def wait(*arguments, **options):
    while arguments[0].index == 2 and pathlib.Path({path!r}).exists():
        time.sleep(0.02)
    return _make_worker(*arguments, **options)

soniqd.roles.child.make_worker = wait
"""
EXPLAINED = (
    "code is compared by the files of imported packages: if it reads something else when it is imported, "
    "soniqctl reload --all replaces everything"
)


async def pids(daemon: Daemon) -> dict[str, int]:
    """The children that are not on their way out, by their places."""
    return {c["slot"]: c["pid"] for c in (await daemon.status())["children"] if c["state"] != "draining"}


async def generations(daemon: Daemon) -> dict[str, int]:
    return {c["slot"]: c["generation"] for c in (await daemon.status())["children"] if c["state"] != "draining"}


def fork_servers(daemon: Daemon) -> list[str]:
    return [process.command for process in daemon.processes() if "fork server" in process.command]


async def rehearsal(daemon: Daemon, *arguments: str, expect: int = 0) -> dict[str, Any]:
    """What ``reload --dry-run --json`` answers; nothing may have changed by it."""
    before, was, servers = await pids(daemon), (await daemon.status())["generation"], fork_servers(daemon)
    answer: dict[str, Any] = await daemon.soniqctl_json("reload", "--dry-run", *arguments, expect=expect)
    status = await daemon.status()
    assert await pids(daemon) == before
    assert (status["generation"], status["state"]) == (was, "running")
    await daemon.eventually(lambda: set(fork_servers(daemon)) <= set(servers))  # one of before may be about to leave
    return answer


def by_name(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {group["name"]: group for group in answer["changes"]["groups"]}


async def test_without_any_change_everybody_stays_and_it_says_so(tmp_path):
    async with Daemon(tmp_path, workers=GROUPS) as daemon:
        before = await pids(daemon)
        told = await daemon.soniqctl("reload")
        assert told.startswith(
            "reloaded: nothing has changed, 4 processes stayed; generation 2 is ready for the next ones, in "
        )
        assert told.splitlines()[1] == EXPLAINED
        assert await pids(daemon) == before
        await daemon.eventually(lambda: fork_servers(daemon) == ["soniqd: fork server gen 2"])
        record = await daemon.log_event("reload_changed_nothing", generation=2)
        assert "soniqctl reload --all" in record["message"]


async def test_the_next_child_of_a_place_that_stayed_comes_from_the_new_generation(tmp_path):
    async with Daemon(tmp_path) as daemon:
        await daemon.soniqctl("reload")
        assert await generations(daemon) == {"scheduler/1": 1, "default/1": 1}
        mark = daemon.log.mark()
        await daemon.kill("default/1")
        await daemon.log_event("child_ready", since=mark, slot="default/1")
        assert await generations(daemon) == {"scheduler/1": 1, "default/1": 2}


async def test_all_replaces_everybody_whatever_has_changed(tmp_path):
    async with Daemon(tmp_path, workers=GROUPS) as daemon:
        before = await pids(daemon)
        answer = await daemon.soniqctl_json("reload", "--all")
        assert (answer["replaced"], answer["kept"], answer["error"]) == (4, 0, None)
        after = await pids(daemon)
        assert after.keys() == before.keys()
        assert set(after.values()).isdisjoint(before.values())


async def test_a_changed_group_alone_is_replaced(tmp_path):
    async with Daemon(tmp_path, workers=GROUPS) as daemon:
        before = await pids(daemon)
        daemon.write_config(workers=[GROUPS[0], {**GROUPS[1], "concurrency": 9}])
        told = await daemon.soniqctl("reload")
        assert "1 process replaced" in told
        assert "3 not concerned" in told
        assert "concurrency: 4 -> 9" in told
        after = await pids(daemon)
        assert {slot for slot in before if before[slot] != after[slot]} == {"mail/1"}


async def test_more_and_fewer_processes_leave_the_others_alone(tmp_path):
    async with Daemon(tmp_path, workers=GROUPS) as daemon:
        before = await pids(daemon)
        daemon.write_config(workers=[{"processes": 3}, GROUPS[1]])
        await daemon.soniqctl("reload")
        more = await pids(daemon)
        assert {slot: more[slot] for slot in before} == before
        assert more.keys() - before.keys() == {"default/3"}
        daemon.write_config(workers=[{"processes": 1}, GROUPS[1]])
        await daemon.soniqctl("reload")
        await daemon.eventually(lambda: _slots(daemon, {"scheduler/1", "default/1", "mail/1"}))
        assert (await pids(daemon))["default/1"] == before["default/1"]


async def _slots(daemon: Daemon, expected: set[str]) -> bool:
    return {child["slot"] for child in (await daemon.status())["children"]} == expected


async def test_a_setting_that_every_child_has_replaces_all_of_them(tmp_path):
    async with Daemon(tmp_path, workers=GROUPS) as daemon:
        before = await pids(daemon)
        daemon.write_config(workers=GROUPS, jobs={"timeout": "7m"})
        answer = await daemon.soniqctl_json("reload")
        assert answer["replaced"] == 4
        assert answer["changes"]["code"] == []
        assert all(group["reasons"] == ["[jobs] timeout: 5m -> 7m"] for group in answer["changes"]["groups"])
        assert set((await pids(daemon)).values()).isdisjoint(before.values())


async def test_a_setting_of_the_master_takes_effect_and_replaces_nobody(tmp_path):
    async with Daemon(tmp_path) as daemon:
        before = await pids(daemon)
        daemon.write_config(soniqd={"probation": 1.5})
        told = await daemon.soniqctl("reload")
        assert told.startswith("reloaded: no process is concerned, 2 processes stayed;")
        assert "[soniqd] probation: 0s -> 1500ms (no process has to be replaced for it)" in told
        assert await pids(daemon) == before
        answer = await daemon.soniqctl_json("reload", "--all")
        assert answer["duration_s"] >= 1.5
        await daemon.log_event("canaries_passed")


async def test_the_log_level_of_the_master_follows_the_configuration(tmp_path):
    async with Daemon(tmp_path) as daemon:
        assert not daemon.log.find("child_forked")
        daemon.write_config(soniqd={"log_level": "DEBUG"})
        await daemon.soniqctl("reload")
        await daemon.kill("default/1")
        await daemon.log_event("child_forked")
        daemon.write_config(soniqd={"log_level": "ERROR"})
        await daemon.soniqctl("reload")
        mark = daemon.log.mark()
        killed = await daemon.kill("default/1")
        await daemon.eventually(lambda: _restarted(daemon, killed))
        assert not daemon.log.find("child_died", since=mark)
        assert f"default/1 died, pid {killed}" in await daemon.soniqctl("events"), (
            "what the log leaves out is an event all the same"
        )


async def _restarted(daemon: Daemon, killed: int) -> bool:
    child = await daemon.child("default/1")
    return child["pid"] not in (None, killed) and child["state"] == "running"


async def test_a_heartbeat_interval_takes_effect(tmp_path):
    async with Daemon(tmp_path) as daemon:
        daemon.write_config(sweep={"heartbeat_interval": 0.2, "interval": 0.3})
        answer = await daemon.soniqctl_json("reload")
        assert answer["changes"]["settings"] == [
            "[sweep] heartbeat_interval: 5s -> 200ms",
            "[sweep] interval: 1m -> 300ms",
        ]
        seen: set[float] = set()
        await daemon.eventually(lambda: _beat_twice_within_a_second(seen, tmp_path / "jobs.db"), timeout_s=20)


def _beat_twice_within_a_second(seen: set[float], path: Path) -> bool:
    with contextlib.closing(sqlite3.connect(path)) as database:
        [(beat,)] = database.execute("SELECT max(last_heartbeat) FROM soniq_workers WHERE status = 'active'").fetchall()
    seen.add(beat)
    return any(later - earlier < 1 for earlier, later in itertools.pairwise(sorted(seen)))


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("soniqd", {"socket": "/tmp/elsewhere.sock"}),
        ("database", {"connect_timeout": "9s"}),
        ("database", {"statement_timeout": "9s"}),
    ],
)
async def test_what_needs_a_restart_is_named_and_refused_as_a_whole(tmp_path, table: str, values: dict[str, str]):
    async with Daemon(tmp_path) as daemon:
        socket = daemon.socket
        before = await pids(daemon)
        daemon.write_config(**{table: values, "workers": {"processes": 2}})
        [key] = values
        message = f"[{table}] {key} changed; restart soniqd to apply that"
        with pytest.raises(AssertionError, match="ended with 1, not 0") as failed:
            await daemon.soniqctl("--socket", str(socket), "reload")
        assert message in str(failed.value)
        assert await pids(daemon) == before
        answer = await daemon.soniqctl_json("--socket", str(socket), "reload", "--dry-run", expect=1)
        assert answer["needs_restart"] == [f"[{table}] {key}"]
        assert answer["refused"]


async def test_a_scaled_group_keeps_its_number_until_the_configured_one_changes_or_all_is_reloaded(tmp_path):
    async with Daemon(tmp_path) as daemon:
        await daemon.soniqctl("scale", "default", "3", "--wait")
        daemon.write_jobs(CHANGED)
        await daemon.soniqctl("reload")
        assert await _slots(daemon, {"scheduler/1", "default/1", "default/2", "default/3"})
        answer = await rehearsal(daemon, "--all")
        assert by_name(answer)["default"] | {"reasons": []} == {
            "name": "default", "action": "change", "started": 0, "stopped": 2, "replaced": 1, "kept": 0, "reasons": [],
        }  # fmt: skip
        await daemon.soniqctl("reload", "--all")
        await daemon.eventually(lambda: _slots(daemon, {"scheduler/1", "default/1"}))


async def test_a_rehearsal_of_nothing_says_that_nothing_would_happen(tmp_path):
    async with Daemon(tmp_path, workers=GROUPS) as daemon:
        answer = await rehearsal(daemon)
        assert not answer["refused"]
        assert {name: (group["action"], group["kept"]) for name, group in by_name(answer).items()} == {
            "scheduler": ("stay", 1),
            "default": ("stay", 2),
            "mail": ("stay", 1),
        }
        told = await daemon.soniqctl("reload", "--dry-run")
        assert told.splitlines()[-2:] == ["nothing has changed, all would stay; nothing was done", EXPLAINED]


async def test_a_rehearsal_tells_what_starts_stops_changes_and_stays_and_why(tmp_path):
    groups = [{}, {"name": "mail"}, {"name": "old"}, {"name": "same"}]
    async with Daemon(tmp_path, workers=groups) as daemon:
        daemon.write_config(
            workers=[{"processes": 3}, {"name": "mail", "queues": ["mail"]}, {"name": "same"}, {"name": "new"}]
        )
        answer = by_name(await rehearsal(daemon))
        assert {name: (g["started"], g["stopped"], g["replaced"], g["kept"]) for name, g in answer.items()} == {
            "scheduler": (0, 0, 0, 1),
            "default": (2, 0, 0, 1),
            "mail": (0, 0, 1, 0),
            "same": (0, 0, 0, 1),
            "new": (1, 0, 0, 0),
            "old": (0, 1, 0, 0),
        }
        assert answer["default"]["reasons"] == ["processes: 1 -> 3"]
        assert answer["mail"]["reasons"] == ["queues: [] -> [mail]"]
        assert answer["old"]["reasons"] == ["it is no longer configured"]


async def test_a_rehearsal_says_what_the_reload_then_does(tmp_path):
    async with Daemon(tmp_path, workers=GROUPS) as daemon:
        daemon.write_jobs(CHANGED)
        daemon.write_config(workers=[{"processes": 3}, GROUPS[1]])
        rehearsed = await rehearsal(daemon)
        assert rehearsed["changes"]["code"] == ["[jobs] path", "test_jobs"]
        done = await daemon.soniqctl_json("reload")
        assert done["changes"] == rehearsed["changes"]


async def test_a_rehearsal_of_code_that_cannot_be_imported_fails_and_tells_why(tmp_path):
    async with Daemon(tmp_path) as daemon:
        daemon.write_jobs("import no_such_module_anywhere\n")
        answer = await rehearsal(daemon, expect=1)
        assert answer["refused"]
        [problem] = answer["problems"]
        assert "no_such_module_anywhere" in problem
        assert (await daemon.status())["last_reload"] is None
        told = await daemon.soniqctl("reload", "--dry-run", expect=1)
        assert told.splitlines()[-1] == "a reload would be refused; nothing was done"


async def test_a_daemon_leaves_in_the_middle_of_a_rehearsal_that_cannot_be_interrupted(tmp_path):
    begun = tmp_path / "begun"
    async with Daemon(tmp_path) as daemon:
        daemon.write_jobs(f"import pathlib\npathlib.Path({str(begun)!r}).touch()\nmax(range(10**12))\n")
        told = asyncio.create_task(daemon.refusal("reload", "--dry-run"))
        await daemon.eventually(begun.exists)
        assert await daemon.stop() == 0
        assert "the daemon stops" in await told


async def test_a_rehearsal_of_a_configuration_with_problems_names_each(tmp_path):
    async with Daemon(tmp_path) as daemon:
        daemon.write_config(workers={"processes": "many", "concurency": 3})
        answer = await rehearsal(daemon, expect=1)
        assert len(answer["problems"]) == 2


async def test_code_that_changes_while_it_is_imported_counts_as_changed_the_next_time(tmp_path):
    """A deploy that is still copying when the reload begins must not leave old code behind for good."""
    begun, copied = tmp_path / "begun", tmp_path / "copied"
    slow = (
        f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\n"
        f"while not pathlib.Path({str(copied)!r}).exists():\n    time.sleep(0.01)\n"
    ) + JOBS
    async with Daemon(tmp_path) as daemon:
        daemon.write_jobs(slow)
        reload = asyncio.create_task(daemon.soniqctl("reload"))
        await daemon.eventually(begun.exists)
        daemon.write_jobs(slow)
        copied.touch()
        await reload
        answer = await daemon.soniqctl_json("reload")
        assert answer["replaced"] == 2
        assert (await daemon.soniqctl_json("reload"))["replaced"] == 0


async def test_a_fork_server_that_has_to_import_other_code_again_says_so_and_the_next_reload_ends_that(tmp_path):
    async with Daemon(tmp_path, workers={"processes": 2}) as daemon:
        daemon.write_jobs(CHANGED)
        mark = daemon.log.mark()
        [server] = [process.pid for process in daemon.processes() if "fork server" in process.command]
        os.kill(server, signal.SIGKILL)
        record = await daemon.log_event("code_changed_unasked", since=mark)
        assert "test_jobs" in record["parts"]
        await daemon.kill("default/1")
        await daemon.log_event("child_ready", since=mark, slot="default/1")
        changed = await pids(daemon)
        answer = await daemon.soniqctl_json("reload")
        assert answer["kept"] == 1
        after = await pids(daemon)
        assert {slot for slot in after if after[slot] == changed[slot]} == {"default/1"}


async def test_a_reload_that_takes_back_an_unfinished_one_leaves_nobody_with_its_settings(tmp_path):
    """The first one has replaced some when the second comes, whose settings are those in force before both."""
    hold = tmp_path / "hold"
    slow = JOBS + SECOND_WAITS.format(path=str(hold))
    async with Daemon(tmp_path, workers={"processes": 3}, jobs=slow) as daemon:
        hold.touch()
        daemon.write_config(workers={"processes": 3}, jobs={"timeout": "7m"})
        mark = daemon.log.mark()
        first = asyncio.create_task(daemon.soniqctl("reload", expect=1))
        await daemon.log_event("child_left", since=mark, slot="default/1")
        daemon.write_config(workers={"processes": 3})
        mark = daemon.log.mark()
        second = asyncio.create_task(daemon.soniqctl("reload"))
        await daemon.log_event("reload_failed", since=mark)
        hold.unlink()
        assert "replaced" in await second
        await first
        assert set((await generations(daemon)).values()) == {1, 3}
        answer = await rehearsal(daemon)
        assert all(group["action"] == "stay" for group in by_name(answer).values())


async def test_deploys_that_change_nothing_cost_no_connection_and_leave_no_process(tmp_path):
    async with Daemon(tmp_path) as daemon:
        before = await pids(daemon)
        for _ in range(3):
            await daemon.soniqctl("reload")
        assert await pids(daemon) == before
        await daemon.eventually(lambda: len(daemon.processes()) == len(before) + 1)
