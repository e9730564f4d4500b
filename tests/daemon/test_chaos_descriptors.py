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
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (hard, hard))
        await daemon.log_event("child_ready", since=mark, slot="default/1")
        assert "Traceback" not in daemon.log.path.read_text()
