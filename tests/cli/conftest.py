"""soniqctl in this process, and a master that answers what a test says."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from soniqd.cli.soniqctl import main
from soniqd.control.message import Request
from soniqd.control.peer import Peer
from soniqd.control.server import ControlServer

Answer = dict[str, Any] | Exception | Callable[[dict[str, Any]], dict[str, Any]]


class FakeMaster:
    """Answers requests on a real control socket, from a loop in a thread of its own."""

    def __init__(self, path) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.silent: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._server = ControlServer(path, self._answer)

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result(10)

    def close(self) -> None:
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._server.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _answer(self, request: Request, _peer: Peer) -> dict[str, Any]:
        self.requests.append((request.command, request.params))
        if request.command in self.silent:
            await asyncio.Event().wait()
        answer = self.answers[request.command]
        if isinstance(answer, Exception):
            raise answer
        return answer(request.params) if callable(answer) else answer


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """No variable and no .env of the machine reaches a test."""
    for name in [name for name in os.environ if name.startswith("SONIQ")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("soniqd.settings.DEFAULT_PATH", tmp_path / "absent" / "soniq.toml")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def master(tmp_path):
    fake = FakeMaster(tmp_path / "s.sock")
    fake.start()
    yield fake
    fake.close()


@pytest.fixture
def soniqctl(tmp_path) -> Callable[..., Result]:
    """Run soniqctl with the fake master's socket and a database in a file."""

    def run(*arguments: str, expect: int = 0) -> Result:
        options = ["--socket", str(tmp_path / "s.sock"), "--database-url", f"sqlite:///{tmp_path / 'jobs.db'}"]
        result = CliRunner().invoke(main, [*options, *arguments])
        assert result.exit_code == expect, result.output
        return result

    return run
