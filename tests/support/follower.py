"""``soniqctl logs --follow`` and ``events --follow`` as a test sees them: entry by entry."""

from __future__ import annotations

import asyncio
import json
import signal
from types import TracebackType
from typing import Any, Self

from tests.support.daemon import BIN, Daemon

Entry = dict[str, Any]


class Follower:
    """One soniqctl that follows a daemon, as JSON; when the block begins, the master knows of it."""

    def __init__(self, daemon: Daemon, *arguments: str) -> None:
        self._daemon = daemon
        self._arguments = arguments
        self.seen: list[Entry] = []
        self.process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        before = await self._followers()
        self.process = await asyncio.create_subprocess_exec(
            str(BIN / "soniqctl"),
            "-c",
            str(self._daemon.config),
            "--json",
            *self._arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )

        async def is_followed() -> bool:
            return await self._followers() > before

        await self._daemon.eventually(is_followed, message="soniqctl follows")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()

    @property
    def _stdout(self) -> asyncio.StreamReader:
        assert self.process.stdout is not None
        return self.process.stdout

    async def entry(self, *, timeout_s: float = 15, **fields: Any) -> Entry:
        """Return the next entry with these fields; what comes before it stays in ``seen``."""
        async with asyncio.timeout(timeout_s):
            while True:
                line = await self._stdout.readline()
                assert line, f"the stream ended before {fields}: {await self.errors()}"
                entry: Entry = json.loads(line)
                self.seen.append(entry)
                if all(entry.get(name) == value for name, value in fields.items()):
                    return entry

    async def rest(self, *, timeout_s: float = 15) -> list[Entry]:
        """Read to the end; return everything that was ever seen."""
        async with asyncio.timeout(timeout_s):
            while line := await self._stdout.readline():
                self.seen.append(json.loads(line))
        return self.seen

    async def errors(self) -> str:
        """Return what it said on stderr, to its end."""
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    async def _followers(self) -> int:
        return int((await self._daemon.status())["followers"])
