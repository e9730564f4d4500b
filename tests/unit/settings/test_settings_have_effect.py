"""No setting does nothing."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from soniqd import Soniq
from soniqd.settings.daemon import DaemonSettings, WorkerGroup
from soniqd.settings.fields import settings_of
from soniqd.settings.library import SoniqSettings

SOURCES = Path(__file__).parents[3] / "soniqd"
TABLES = [name for name in settings_of(DaemonSettings) if name not in {"workers", "include"}]
FOR_OTHERS = {("library", "queues"), ("library", "jobs_modules")}
"""The application's own code may read them; SONIQ_JOBS_MODULES reaches `soniqctl worker` as [jobs] modules."""


def _fields() -> Iterator[tuple[str, str]]:
    yield from (("library", name) for name in settings_of(SoniqSettings))
    for table in TABLES:
        yield from ((table, name) for name in settings_of(type(getattr(DaemonSettings(), table))))
    yield from (("workers", name) for name in settings_of(WorkerGroup))


def _attributes_read_outside_of_settings() -> set[str]:
    read: set[str] = set()
    for path in SOURCES.rglob("*.py"):
        if SOURCES / "settings" in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                read.add(node.attr)
    return read


def test_each_setting_is_read_somewhere() -> None:
    read = _attributes_read_outside_of_settings() | {"url_file"}  # becomes url when settings are loaded
    assert {(table, name) for table, name in _fields() if name not in read} <= FOR_OTHERS


async def test_variables_reach_what_is_enqueued_and_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Soniq documented these three, and ignored them."""
    for name, value in {"CONCURRENCY": "2", "PRIORITY": "7", "MAX_RETRIES": "0"}.items():
        monkeypatch.setenv(f"SONIQ_{name}", value)
    running, most, runs = 0, 0, 0
    async with Soniq(backend="memory") as app:

        @app.job(name="counted")
        async def counted() -> None:
            nonlocal running, most, runs
            running, runs = running + 1, runs + 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            raise RuntimeError("no")

        [job_id, *_] = [await app.enqueue(counted) for _ in range(6)]
        job = await app.get_job(job_id)
        assert job is not None
        assert (job["priority"], job["max_attempts"]) == (7, 1)
        await app.run_worker(run_once=True)
        assert (most, runs) == (2, 6)
