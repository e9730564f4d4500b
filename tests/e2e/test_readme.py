"""What the README tells to do works, in the order in which it tells it."""

from __future__ import annotations

import asyncio
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import psycopg
import pytest

from soniqd.cli.soniqctl import main as soniqctl
from tests.support.daemon import BIN, Daemon
from tests.support.readme import blocks, section


class Tour(Daemon):
    """The reader: two terminals in a folder with the README's files."""

    async def type(self, command: str) -> None:
        """Run a command as it stands there; only PID and ID are the reader's to fill in."""
        if command == "soniqd -c soniq.toml":
            self.start()
            await self.ready()
            return
        if "PID" in command:
            command = command.replace("PID", str(await self.busy_worker()))
        elif command.endswith(" ID"):
            [job] = await self.soniqctl_json("jobs", "list")
            command = command.replace("ID", job["id"])
        environ = self._environment()
        environ["PATH"] = f"{BIN}:{environ['PATH']}"
        shell = await asyncio.create_subprocess_shell(
            command, cwd=self.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output, _ = await asyncio.wait_for(shell.communicate(), 30)
        assert shell.returncode == 0, f"$ {command}\n{output.decode()}"

    async def busy_worker(self) -> int:
        """The pid of the worker with a job in flight, as the status shows it."""

        async def find() -> int | None:
            return next((child["pid"] for child in (await self.status())["children"] if child["in_flight"]), None)

        return int(await self.eventually(find))


async def test_the_tour(tmp_path: Path) -> None:
    tour = Tour(tmp_path)
    commands = []
    for block in blocks("Five minutes"):
        if block.title:
            (tmp_path / block.title).write_text(block.text)
        commands += block.commands
    try:
        for command in commands:
            if "reload --dry-run" in command:
                change_the_code(tour)
            await tour.type(command)
            if command.startswith("kill -9"):
                await check_that_the_job_runs_again(tour)
        assert await tour.exit_code() == 0
        await tour.gone()
    finally:
        tour._end_everything()
    assert "reload done: generation 2, 3 children replaced" in tour.log.path.read_text()
    shown = set(re.findall(r"(?m)^soniqctl -c soniq.toml (\S+)", "\n".join(commands)))
    assert shown >= {"setup", "enqueue", "status", "reload", "stop"}


def change_the_code(tour: Tour) -> None:
    with (tour.folder / "jobs.py").open("a") as jobs:
        jobs.write("\n# changed\n")


async def check_that_the_job_runs_again(tour: Tour) -> None:
    await tour.busy_worker()
    [job] = await tour.soniqctl_json("jobs", "list")
    assert (job["crashes"], job["attempts"]) == (1, 0)


async def test_the_applications_example(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [block] = blocks("From your application")
    (tmp_path / f"readme_{block.title}").write_text(block.text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SONIQ_DATABASE_URL", postgres_url)
    shop: Any = importlib.import_module("readme_shop")
    monkeypatch.setitem(sys.modules, "readme_shop", shop)
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        await connection.execute("CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY, item text)")
    async with shop.app as app:
        order_id = await shop.place_order(postgres_url, "a book")
        await app.run_worker(run_once=True)
    assert f"receipt of order {order_id}, attempt 1" in capsys.readouterr().out


def test_the_table_of_commands_has_each_command_of_soniqctl_and_no_other() -> None:
    table = [words for cell in table_cells() for words in re.findall(r"`([^`]+)`", cell)]
    assert sorted(" ".join(find_command(words)[0]) for words in table) == sorted(all_commands())


def test_the_table_of_commands_shows_options_that_exist() -> None:
    for cell in table_cells():
        for words in re.findall(r"`([^`]+)`", cell):
            _, command = find_command(words)
            options = {option for parameter in command.params for option in parameter.opts}
            assert set(re.findall(r"--[a-z-]+", words)) <= options, words


def table_cells() -> list[str]:
    return [line.split("|")[1] for line in section("Commands").splitlines() if line.startswith("| `")]


def find_command(words: str) -> tuple[list[str], click.Command]:
    """Follow the words of a command line down to the command that they name."""
    command: click.Command = soniqctl
    path: list[str] = []
    context = click.Context(soniqctl)
    for word in words.split():
        below = command.get_command(context, word) if isinstance(command, click.Group) else None
        if below is None:
            break
        command = below
        path.append(word)
    return path, command


def all_commands() -> list[str]:
    def below(group: click.Group, path: str) -> Iterator[str]:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if isinstance(command, click.Group):
                yield from below(command, f"{path}{name} ")
            else:
                yield path + name

    return list(below(soniqctl, ""))
