"""Hearing of claimable and due jobs: a LISTEN connection that heals itself and knows whether it hears.

States: *away* (connecting, or waiting to try again), *deaf* and *live*. A new connection listens and is live only when
it has heard a notification on a channel of its own: behind a pooler in transaction mode LISTEN succeeds and nothing
ever arrives. Then it is deaf: it looks for jobs by itself (:mod:`~soniqd.backends.postgres.polling`), and tries to
listen again every minute, since a pooler may go. While live, silence is ended by a round trip every now and then, with
a deadline. Whenever it becomes live it says "look for yourself", since what was sent before was not heard.

The proof has to come from another session where there is a pooler: what a session sends itself arrives with the end of
the statement that sent it, even where a pooler then hands the session to somebody else.

Producers of Soniq announce a job for later as they announce any job, without its time. So new jobs make the listener
look up when the next one is due, at most every ``_LOOK_EVERY_S``, and it passes on what nobody has told.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
import uuid
from collections.abc import Callable

import psycopg
from psycopg import sql
from psycopg.pq import ConnStatus
from psycopg.pq.abc import PGconn

from soniqd.backends.postgres.connection import Connection
from soniqd.backends.postgres.database import Database, execute
from soniqd.backends.postgres.deadline import shut
from soniqd.backends.postgres.failure import reason_of
from soniqd.backends.postgres.polling import Poller
from soniqd.backends.postgres.statements import SQL
from soniqd.backends.values import WakeUp
from soniqd.backends.wakebox import WakeBox
from soniqd.errors import DatabaseError
from soniqd.log.catalogue import LISTENER_DEAF, LISTENER_LIVE, LISTENER_LOST
from soniqd.log.event import emit

NEW_JOB, DUE = "soniq_new_job", "soniq_due"
_NEW_JOB = NEW_JOB.encode()
_PROOF_EVERY_S = 20.0
_PROOF_TIMEOUT_S = 5.0
_ECHO_TIMEOUT_S = 2.0
"""For what was sent already. Who takes itself for deaf by mistake finds its jobs by looking until it tries again."""
_LOOK_EVERY_S = 0.25
_LOOK_AFTER_S = 0.02
"""So much later than a new job, whose claim comes first."""
_LISTEN_AGAIN_S = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0


class _UnheardError(Exception):
    """The database is there, and what it tells does not arrive."""


class PostgresWakeUps:
    """The protocol's WakeUps."""

    def __init__(self, database: Database, *, on_close: Callable[[PostgresWakeUps], None]) -> None:
        self._database = database
        self._on_close = on_close
        self._box = WakeBox()
        self._live = False
        self._echo = f"soniq_echo_{uuid.uuid4().hex}"
        self._echoed = False
        self._clock_offset_s = 0.0
        self._told_due = ""
        self._look_at: float | None = None
        self._looked_at = -math.inf
        self._heard_at = 0.0
        self._hearing: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._poller: Poller | None = None

    async def start(self) -> None:
        """Begin to listen and wait for the first attempt, so that a subscription that can be live is."""
        tried = asyncio.Event()
        self._task = asyncio.create_task(self._listen_for_ever(tried), name="soniqd-listen")
        await tried.wait()

    @property
    def live(self) -> bool:
        return self._live

    def hand_to(self, hear: Callable[[WakeUp], None]) -> None:
        self._box.hand_to(hear)

    async def wait(self, timeout_s: float | None = None) -> tuple[WakeUp, ...]:
        return await self._box.wait(timeout_s)

    async def close(self) -> None:
        self._on_close(self)
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._stop_polling()
        self._live = False
        self._box.interrupt()

    async def _listen_for_ever(self, tried: asyncio.Event) -> None:
        failures = 0
        while True:
            try:
                await self._listen_once(tried)
            except _UnheardError:
                tried.set()
                self._poll()
                await asyncio.sleep(_LISTEN_AGAIN_S)
                continue
            except (psycopg.Error, DatabaseError, TimeoutError, OSError) as error:
                failures = 1 if self._live else failures + 1
                if self._live:
                    emit(LISTENER_LOST, error=reason_of(error))
                self._live = False
            tried.set()
            pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(failures, 10))
            await asyncio.sleep(pause_s * (0.5 + random.random() / 2))  # noqa: S311 (jitter)

    async def _listen_once(self, tried: asyncio.Event) -> None:
        connection = await self._database.connect(purpose="listener")
        try:
            await self._subscribe(connection)
            self._live = True
            emit(LISTENER_LIVE)
            self._box.add()
            tried.set()
            await self._stop_polling()
            while True:
                now = time.monotonic()
                prove_at = self._heard_at + _PROOF_EVERY_S
                if self._look_at is not None and self._look_at <= now:
                    await self._look_for_due(connection)
                elif prove_at <= now:
                    await self._prove(connection)
                else:
                    await self._hear(connection, min(self._look_at or prove_at, prove_at) - now)
        finally:
            await connection.close()

    async def _subscribe(self, connection: Connection) -> None:
        """Listen, and hear oneself: only then notifications are known to arrive."""
        connection.add_notify_handler(self._take)
        async with asyncio.timeout(_PROOF_TIMEOUT_S):
            for channel in (NEW_JOB, DUE, self._echo):
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            await self._prove(connection)
        self._echoed = False
        if self._database.pooled:
            await self._database.fetch(SQL["echo"], {"channel": self._echo})
        else:
            await execute(connection, SQL["echo"], {"channel": self._echo})
        try:
            async with asyncio.timeout(_ECHO_TIMEOUT_S):
                while not self._echoed:
                    await self._hear(connection, _ECHO_TIMEOUT_S)
        except TimeoutError:
            await self._unsubscribe(connection)
            raise _UnheardError from None

    async def _unsubscribe(self, connection: Connection) -> None:
        """Leave nothing behind in a session that a pooler hands to others."""
        with contextlib.suppress(psycopg.Error, TimeoutError):
            async with asyncio.timeout(_PROOF_TIMEOUT_S):
                await connection.execute(b"UNLISTEN *")

    def _poll(self) -> None:
        if self._poller is None:
            emit(LISTENER_DEAF)
            self._poller = Poller(self._database, self._box, tell_due=self._tell_due)
        self._live = False

    async def _stop_polling(self) -> None:
        poller, self._poller = self._poller, None
        if poller is not None:
            await poller.close()

    async def _prove(self, connection: Connection) -> None:
        """Make a round trip, and learn how far the database's clock is from ours."""
        timer = asyncio.get_running_loop().call_later(_PROOF_TIMEOUT_S, shut, connection)
        try:
            [(database_now,)] = await execute(connection, SQL["clock"], {})
        finally:
            timer.cancel()
        self._heard_at = time.monotonic()
        self._clock_offset_s = database_now - self._heard_at

    async def _look_for_due(self, connection: Connection) -> None:
        """Tell of the next job for later, unless that time was told."""
        self._look_at, self._looked_at = None, time.monotonic()
        timer = asyncio.get_running_loop().call_later(_PROOF_TIMEOUT_S, shut, connection)
        try:
            [(due,)] = await execute(connection, SQL["next_due"], {})
        except psycopg.ProgrammingError:  # no tables, or not ours to read: whoever claims reports that
            return
        finally:
            timer.cancel()
        self._heard_at = time.monotonic()
        if due is not None and due != self._told_due:
            self._tell_due(due)

    async def _hear(self, connection: Connection, timeout_s: float) -> None:
        """Take what arrives, for ``timeout_s`` or until something has to be done about it.

        Not psycopg's ``notifies()``, which looks at the socket ten times a second, and hands what it finds to a task.
        A wake-up does not end this: a woken worker may wait for this processor, and what is done here delays its job.
        """
        loop = asyncio.get_running_loop()
        self._hearing = loop.create_future()
        descriptor = connection.pgconn.socket
        loop.add_reader(descriptor, self._take_all, connection.pgconn, descriptor, self._hearing)
        timer = loop.call_later(timeout_s, _end, self._hearing)
        try:
            await self._hearing
        finally:
            self._hearing = None
            timer.cancel()
            if connection.pgconn.status == ConnStatus.OK:  # else the number may be somebody else's by now
                loop.remove_reader(descriptor)

    def _take_all(self, pgconn: PGconn, descriptor: int, hearing: asyncio.Future[None]) -> None:
        """Take what lies in the socket: here, and not in the task that waits, since a worker is to be woken by it.

        libpq closes the socket where it reads the end of the stream: nobody is to be given that number with our reader.
        """
        try:
            pgconn.consume_input()
            notifications = list(iter(pgconn.notifies, None))
            if len(notifications) == 1 and notifications[0].relname == _NEW_JOB:  # most of the time
                self._box.add_only(notifications[0].extra.decode("utf-8", "replace") or None)
                self._expect_due()
            elif not notifications:  # a goodbye, perhaps: a reader of uvloop's is called once only where a socket fails
                self._end_hearing()
            else:
                with self._box.burst():
                    for notification in notifications:
                        self._take_raw(notification.relname.decode(), notification.extra.decode("utf-8", "replace"))
            if pgconn.status != ConnStatus.OK:
                raise psycopg.OperationalError("the server closed the connection")
        except psycopg.Error as error:
            asyncio.get_running_loop().remove_reader(descriptor)
            if not hearing.done():
                hearing.set_exception(error)
        else:
            self._heard_at = time.monotonic()

    def _take(self, notification: psycopg.Notify) -> None:
        self._take_raw(notification.channel, notification.payload)

    def _take_raw(self, channel: str, payload: str) -> None:
        if channel == NEW_JOB:
            self._box.add(payload or None)
            self._expect_due()
        elif channel == DUE:
            self._tell_due(payload)
        else:
            self._echoed = True
            self._end_hearing()

    def _expect_due(self) -> None:
        """Look soon whether a job has come whose time nobody has told."""
        if self._look_at is None:
            self._look_at = max(self._looked_at + _LOOK_EVERY_S, time.monotonic() + _LOOK_AFTER_S)
            self._end_hearing()

    def _end_hearing(self) -> None:
        if self._hearing is not None:
            _end(self._hearing)

    def _tell_due(self, epoch: str) -> None:
        self._told_due = epoch
        self._box.add(due_in_s=self._due_in_s(epoch))

    def _due_in_s(self, payload: str) -> float:
        try:
            return max(0.0, float(payload) - self._clock_offset_s - time.monotonic())
        except ValueError:
            return 0.0


def _end(hearing: asyncio.Future[None]) -> None:
    if not hearing.done():
        hearing.set_result(None)
