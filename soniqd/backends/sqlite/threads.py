"""The two threads that touch the file: a writer that batches, and a reader."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from soniqd.backends.sqlite.bell import Bell
from soniqd.backends.sqlite.connection import OpenFile, open_file
from soniqd.backends.sqlite.failures import is_about_the_file, is_full, is_locked, translated
from soniqd.backends.sqlite.transaction import Transaction
from soniqd.errors import SoniqError

T = TypeVar("T")
S = TypeVar("S")

_LARGEST_BATCH = 64
"""Calls served in one transaction at most: other processes wait for it."""

_PAUSE_S = (0.0002, 0.002)
"""Between two tries for the lock; about as long as a transaction takes. Random, so that two do not march in step."""


_HAND_OVER_S = 0.002
"""How long the loop waits at most for a thread to begin with work that is much."""


@dataclass(slots=True)
class Call(Generic[S]):
    """Work for a thread, the future that its answer goes to, and what is released when the work begins."""

    work: Callable[[S], Any]
    future: asyncio.Future[Any]
    begun: threading.Semaphore | None = None

    def run(self, resource: S) -> Any:
        """Do the work, unless nobody waits for it any more."""
        if self.begun is not None:
            self.begun.release()
        return None if self.future.cancelled() else self.work(resource)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a call."""

    value: Any = None
    error: Exception | None = None


class ConnectionThread(Generic[S]):
    """A thread with a connection of its own, that serves calls of one event loop in order."""

    def __init__(self, name: str, path: Path, *, busy_timeout_s: float, clock: Callable[[], float]) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._clock = clock
        self._calls: queue.SimpleQueue[Call[S] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._file: OpenFile | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def call(self, work: Callable[[S], T], *, much: bool = False) -> T:
        """Have the work done, and return its answer. Cancelling leaves undone what has not begun.

        For work that is ``much``, the loop stands still until the thread has begun with it, ``_HAND_OVER_S`` at most:
        while the loop is busy, the thread waits 5 ms for the interpreter lock at each of its steps. It does not stand
        still once more for work behind work that has not begun, such as that of many callers while the file is locked.
        """
        future = self._loop.create_future()
        begun = threading.Semaphore(0) if much and self._calls.empty() else None
        self._calls.put(Call(work, future, begun))
        if begun is not None:
            begun.acquire(timeout=_HAND_OVER_S)
        answer: T = await future
        return answer

    async def close(self) -> None:
        """Serve what waits, close the connection and end the thread."""
        self._calls.put(None)
        await self._ended
        self._thread.join()

    def _run(self) -> None:
        open_ = True
        while open_:
            batch, open_ = self._next_batch()
            if batch:
                self._deliver(batch, self._serve(batch))
            del batch  # or the last calls' arguments live until the next one
        self._drop_file()
        self._tell_loop(self._end)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _next_batch(self) -> tuple[list[Call[S]], bool]:
        batch: list[Call[S]] = []
        call = self._calls.get()
        while call is not None:
            batch.append(call)
            if len(batch) == self._batch_size() or self._calls.empty():
                return batch, True
            call = self._calls.get()
        return batch, False

    def _batch_size(self) -> int:
        return 1

    def _serve(self, batch: Sequence[Call[S]]) -> list[Answer]:
        raise NotImplementedError

    def _deliver(self, batch: Sequence[Call[S]], answers: Sequence[Answer]) -> None:
        self._tell_loop(_resolve, batch, answers)

    def _tell_loop(self, callback: Callable[..., None], *arguments: object) -> None:
        # A loop that was closed has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _connection(self, *, writes: bool) -> sqlite3.Connection:
        """Return the open connection; open (again) where there is none, or the path names another file now."""
        if self._file is not None and not self._file.is_at(self._path):
            self._drop_file()
        if self._file is None:
            self._file = open_file(self._path, busy_timeout_s=self._busy_timeout_s, clock=self._clock, writes=writes)
        return self._file.connection

    def _drop_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _failed(self, error: Exception) -> SoniqError:
        if is_about_the_file(error):
            self._drop_file()
        failure = translated(error, self._path)
        if failure is not error:
            failure.__cause__ = error
        return failure


def _resolve(batch: Sequence[Call[Any]], answers: Sequence[Answer]) -> None:
    for call, answer in zip(batch, answers, strict=True):
        if call.future.done():
            continue
        if answer.error is None:
            call.future.set_result(answer.value)
        else:
            call.future.set_exception(answer.error)


class Reader(ConnectionThread[sqlite3.Connection]):
    """Answers questions, each as it comes."""

    def _serve(self, batch: Sequence[Call[sqlite3.Connection]]) -> list[Answer]:
        return [self._answer(call) for call in batch]

    def _answer(self, call: Call[sqlite3.Connection]) -> Answer:
        try:
            connection = self._connection(writes=False)
            return Answer(call.run(connection))
        except Exception as error:  # noqa: BLE001 - it is the caller's, on the other thread
            return Answer(error=self._failed(error))


class Writer(ConnectionThread[Transaction]):
    """Serves all waiting calls in one transaction, and rings the bell after its commit."""

    def __init__(self, name: str, path: Path, *, bell: Bell, busy_timeout_s: float, clock: Callable[[], float]) -> None:
        self._bell = bell
        self._was_full = False
        super().__init__(name, path, busy_timeout_s=busy_timeout_s, clock=clock)

    def _batch_size(self) -> int:
        return _LARGEST_BATCH

    def _serve(self, batch: Sequence[Call[Transaction]]) -> list[Answer]:
        try:
            return [Answer(value) for value in self._transact(batch)]
        except Exception as error:  # noqa: BLE001 - it is the callers', on the other thread
            self._was_full = is_full(error)
            if len(batch) == 1 or is_locked(error):
                failure = self._failed(error)
                return [Answer(error=failure) for _ in batch]
            return [answer for call in batch for answer in self._serve([call])]

    def _transact(self, batch: Sequence[Call[Transaction]]) -> list[Any]:
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                return self._attempt(batch)
            except sqlite3.OperationalError as error:
                if not is_locked(error) or time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(*_PAUSE_S))  # noqa: S311 - not a secret

    def _empty_wal(self, connection: sqlite3.Connection) -> None:
        """Move what the WAL holds into the database before more is written to it.

        SQLite does that after a commit, and on a full disk there is none: the little room that somebody makes then
        would go to the WAL again and again, though it could shrink to nothing.
        """
        self._was_full = False
        with contextlib.suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _attempt(self, batch: Sequence[Call[Transaction]]) -> list[Any]:
        connection = self._connection(writes=True)
        if self._was_full:
            self._empty_wal(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            transaction = Transaction(connection, self._clock())
            values = [call.run(transaction) for call in batch]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._bell.ring(transaction.queues, transaction.next_due)
        return values
