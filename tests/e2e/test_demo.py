"""What ``make run`` starts: the demo, and everything that its welcome tells to type."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.follower import Follower

DEMO = Path(__file__).parents[2] / "etc/demo"


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[Daemon]:
    """The demo's daemon, from a copy, so that its state lands in the test's folder."""
    shutil.copytree(DEMO, tmp_path / "etc/demo", ignore=shutil.ignore_patterns("__pycache__", "var"))
    (tmp_path / "etc/demo/var").mkdir()
    daemon = Daemon(tmp_path, environ={"SONIQ_LOG_LEVEL": "INFO"})
    daemon.config = tmp_path / "etc/demo/soniq.toml"
    daemon.socket = tmp_path / "etc/demo/var/soniqd.sock"
    async with daemon:
        yield daemon


async def test_jobs_are_enqueued_scheduled_and_run_within_seconds(demo: Daemon) -> None:
    async def finished() -> set[str]:
        jobs = await demo.soniqctl_json("jobs", "list", "--status", "done")
        return {job["job_name"] for job in jobs}

    wanted = {"demo.open_shop", "demo.handle_order", "demo.print_label", "demo.charge_card"}

    async def all_kinds() -> bool:
        return wanted <= await finished()

    await demo.eventually(all_kinds, timeout_s=30)


async def test_ctrl_c_drains_and_leaves(demo: Daemon) -> None:
    assert await demo.stop(signal.SIGINT) == 0
    await demo.gone()


async def test_what_the_welcome_tells_to_type_works(demo: Daemon) -> None:
    commands = re.findall(r"(?m)^    s (.*?)(?:\s+#.*)?$", (DEMO / "welcome.txt").read_text())
    assert len(commands) > 5
    for command in commands:
        arguments = [one or two for one, two in re.findall(r"'([^']*)'|(\S+)", command)]
        if "--follow" in arguments:
            async with Follower(demo, *arguments) as follower:
                await follower.entry()
        else:
            await demo.soniqctl(*(argument for argument in arguments if argument != "--watch"))
