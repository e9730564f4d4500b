"""How the stores of this backend get their work to the threads."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from soniqd.backends.sqlite.bell import Bell
from soniqd.backends.sqlite.threads import Reader, Writer
from soniqd.backends.sqlite.transaction import Transaction
from soniqd.errors import ClosedError, DatabaseError

T = TypeVar("T")


class Access:
    """Holds the threads while the backend is open. The reader starts when the first question comes."""

    def __init__(self, path: Path, *, busy_timeout_s: float, clock: Callable[[], float]) -> None:
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self._clock = clock
        self._bell = Bell(path)
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self._pid = 0
        self._is_ready = False
        self._opening = 0

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self._clock()

    async def open(self) -> None:
        """Start the writer and let it open the file, or wait for whoever does that just now.

        Where that fails, or is cancelled, the last of those who wait closes it again.
        """
        if self._is_ready:
            return
        if self._writer is None:
            self._pid = os.getpid()
            self._writer = Writer(
                "soniq-sqlite-writer",
                self.path,
                bell=self._bell,
                busy_timeout_s=self._busy_timeout_s,
                clock=self._clock,
            )
        writer = self._writer
        self._opening += 1
        try:
            await self.write(lambda _: None)
            self._is_ready = self._writer is writer
        except BaseException:
            if self._opening == 1 and self._writer is writer and not self._is_ready:
                await self.close()
            raise
        finally:
            self._opening -= 1

    async def close(self) -> None:
        """Finish what was asked for, and end the threads."""
        writer, reader = self._writer, self._reader
        self._writer = self._reader = None
        self._is_ready = False
        if self._pid == os.getpid():
            for thread in (reader, writer):
                if thread is not None:
                    await thread.close()
            self._bell.close()

    async def write(self, work: Callable[[Transaction], T], *, much: bool = False) -> T:
        """Do the work in a write transaction. It may be done again from its start if the transaction has to be."""
        return await self._opened().call(work, much=much)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do the work on the reading connection."""
        self._opened()
        if self._reader is None:
            self._reader = Reader(
                "soniq-sqlite-reader", self.path, busy_timeout_s=self._busy_timeout_s, clock=self._clock
            )
        return await self._reader.call(work)

    def _opened(self) -> Writer:
        if self._writer is None:
            raise ClosedError(f"cannot use the SQLite database {self.path}: it is not open")
        if self._pid != os.getpid():
            raise DatabaseError(
                f"cannot use the SQLite database {self.path}: it was opened by process {self._pid}, before a fork"
            )
        return self._writer
