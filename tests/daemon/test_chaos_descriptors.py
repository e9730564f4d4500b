"""A master that may open no more files."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

from tests.support.daemon import Daemon


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def test_a_child_that_cannot_be_made_for_want_of_descriptors_is_made_later_without_a_traceback(tmp_path):
    async with Daemon(tmp_path) as daemon:
        worker = await daemon.pid_of("default/1")
        _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        few = descriptors(daemon.pid) - 3
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (few, hard))
        mark = daemon.log.mark()
        os.kill(worker, signal.SIGKILL)
        await daemon.log_event("fork_failed", since=mark)
        text = await daemon.soniqctl("status")
        assert f"! soniqd has no file descriptors left for its processes, it may have {few}: allow it " in text
        assert "not started: Too many open files" in text
        assert "unknown" not in text
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (hard, hard))
        await daemon.log_event("child_ready", since=mark, slot="default/1")
        assert (await daemon.status())["descriptors_short"] is None
        assert "Traceback" not in daemon.log.path.read_text()


async def test_a_master_without_any_descriptor_left_still_answers_one_client_at_a_time(tmp_path):
    async with Daemon(tmp_path) as daemon:
        _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (descriptors(daemon.pid), hard))
        for _ in range(3):
            assert (await daemon.status())["state"] == "running"
        assert not daemon.log.find("control_accept_failed")
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (hard, hard))


async def test_a_follower_does_not_keep_the_last_descriptor_from_who_asks_what_is_wrong(tmp_path):
    async with Daemon(tmp_path) as daemon:
        _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (descriptors(daemon.pid) - 3, hard))
        refusal = await daemon.refusal("events", "--follow")
        assert "cannot follow: Too many open files; see soniqctl status" in refusal
        assert (await daemon.status())["state"] == "running"
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (hard, hard))


async def test_what_needs_more_descriptors_than_there_are_is_refused_with_the_reason_and_works_later(tmp_path):
    async with Daemon(tmp_path) as daemon:
        _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        before = descriptors(daemon.pid)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (before + 1, hard))  # one for who asks
        assert "cannot upgrade: Too many open files" in await daemon.refusal("upgrade")
        assert "cannot reload: Too many open files" in await daemon.refusal("reload", "--all")
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (hard, hard))
        await daemon.soniqctl("reload", "--all")
        await daemon.soniqctl("upgrade")
        assert "Traceback" not in daemon.log.path.read_text()
        await daemon.eventually(lambda: descriptors(daemon.pid) <= before, message="no descriptor is left over")


async def test_a_hard_limit_that_was_lowered_below_the_soft_one_of_before_leaves_no_reload_hanging(tmp_path):
    async with Daemon(tmp_path) as daemon:
        lowered = 256
        inherited = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert inherited > lowered
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (lowered, lowered))
        await daemon.soniqctl("reload", "--all")
        worker = await daemon.pid_of("default/1")
        assert resource.prlimit(worker, resource.RLIMIT_NOFILE) == (lowered, lowered)
