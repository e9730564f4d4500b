"""Processes around a fork server: a stub master that adopts, and jobs modules on disk."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from soniqd.settings import DaemonSettings, DatabaseTable, JobsTable
from tests.support.fork_master import ForkMaster, set_subreaper

GREETER = """
from soniqd import Soniq

app = Soniq()

@app.job(name="greet")
async def greet(name):
    return f"hello {name}"
"""


@pytest.fixture
def write_module(tmp_path):
    """Write a module where the fork server finds it."""

    def write_module(name: str, source: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(source))
        return path

    return write_module


@pytest.fixture
def settings_for(tmp_path):
    """Settings with these modules; other fields are tables of DaemonSettings."""

    def settings_for(*modules: str, url: str = "", jobs: dict[str, Any] | None = None, **tables: Any) -> DaemonSettings:
        return DaemonSettings(
            jobs=JobsTable(modules=modules, path=(tmp_path,), **(jobs or {})),
            database=DatabaseTable(url=url or f"sqlite:///{tmp_path}/jobs.db"),
            **tables,
        )

    return settings_for


@pytest.fixture
def masters(tmp_path) -> Iterator[Any]:
    """Start fork servers; everything of them is ended after the test."""
    started: list[ForkMaster] = []
    set_subreaper(on=True)

    def start(settings: DaemonSettings, **options: Any) -> ForkMaster:
        started.append(ForkMaster(settings, tmp_path, **options))
        return started[-1]

    yield start
    for master in started:
        master.end()
    set_subreaper(on=False)


@pytest.fixture
def greeting_master(masters, write_module, settings_for) -> ForkMaster:
    """A fork server over SQLite that has booted a module with one task."""
    write_module("greeter", GREETER)
    master = masters(settings_for("greeter"))
    master.booted()
    return master
