"""What the daemon remembers of what happened to it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.follower import Follower


async def events(daemon: Daemon, *arguments: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (await daemon.soniqctl("--json", "events", *arguments)).splitlines()]


async def test_the_story_so_far_can_be_told(tmp_path: Path) -> None:
    async with Daemon(tmp_path) as daemon:
        pid = await daemon.pid_of("default/1")
        told = await events(daemon)
        names = [entry["event"] for entry in told]
        assert names[0] == "daemon_started"
        assert {"database_up", "generation_booted", "child_ready"} <= set(names)
        assert [entry["ts"] for entry in told] == sorted(str(entry["ts"]) for entry in told)
        lines = (await daemon.soniqctl("events")).splitlines()
        ready = rf"[-0-9]+ [:.0-9]+ INFO    soniqd default/1 is ready, pid {pid}, \d+ ms after .*"
        assert [line for line in lines if re.fullmatch(ready, line)]


async def test_it_can_be_asked_for_less(tmp_path: Path) -> None:
    async with Daemon(tmp_path, workers=[{"name": "a"}, {"name": "b"}]) as daemon:
        mark = daemon.log.mark()
        await daemon.kill("a/1")
        await daemon.log_event("child_ready", since=mark, slot="a/1")
        assert [entry["event"] for entry in await events(daemon, "--level", "warning")] == ["child_died"]
        assert {entry["slot"] for entry in await events(daemon, "--slot", "a/1")} == {"a/1"}
        assert {entry["slot"] for entry in await events(daemon, "--group", "b")} == {"b/1"}
        assert [entry["slot"] for entry in await events(daemon, "--event", "child_died")] == ["a/1"]
        assert [entry["event"] for entry in await events(daemon, "-n", "1")] == ["child_ready"]
        assert await events(daemon, "-n", "0") == []


async def test_events_are_told_as_they_happen(tmp_path: Path) -> None:
    async with Daemon(tmp_path) as daemon, Follower(daemon, "events", "--follow", "-n", "0") as follower:
        killed = await daemon.kill("default/1")
        died = await follower.entry(event="child_died")
        assert (died["slot"], died["pid"], died["source"]) == ("default/1", killed, "soniqd")
        assert follower.seen[0] is died
        await follower.entry(event="child_ready", slot="default/1")


async def test_following_begins_with_the_last_ten(tmp_path: Path) -> None:
    async with Daemon(tmp_path, workers={"processes": 12}) as daemon:
        before = await events(daemon)
        async with Follower(daemon, "events", "--follow") as follower:
            await daemon.kill("default/1")
            await follower.entry(event="child_died")
            assert follower.seen[:-1] == before[-10:]


async def test_only_the_last_thousand_are_kept(tmp_path: Path) -> None:
    async with Daemon(tmp_path) as daemon:
        for _ in range(510):
            await daemon.request("drain")
            await daemon.request("resume")
        told = await events(daemon)
        assert len(told) == 1000
        assert {entry["event"] for entry in told} == {"paused", "resumed"}


async def test_a_quiet_log_does_not_make_it_forget(tmp_path: Path) -> None:
    async with Daemon(tmp_path, soniqd={"log_level": "ERROR"}) as daemon:
        assert "child_ready" in {entry["event"] for entry in await events(daemon)}
        assert not daemon.log.find("child_ready")


async def test_an_upgrade_forgets_nothing(tmp_path: Path) -> None:
    async with Daemon(tmp_path) as daemon:
        before = await events(daemon)
        await daemon.soniqctl("upgrade")
        after = await events(daemon)
        assert after[: len(before)] == before
        assert "upgrade_done" in {entry["event"] for entry in after[len(before) :]}


async def test_a_reload_that_failed_is_told_with_its_traceback(tmp_path: Path) -> None:
    async with Daemon(tmp_path) as daemon:
        daemon.write_jobs("raise RuntimeError('broken on purpose')")
        await daemon.soniqctl("reload", expect=1)
        [told] = await events(daemon, "--event", "boot_traceback")
        assert "broken on purpose" in str(told["traceback"])
        assert "    | RuntimeError: broken on purpose" in await daemon.soniqctl("events")
