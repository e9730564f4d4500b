"""One backend for an application: made late, opened once, closed once, and never shared over a fork.

Where the application is used decides what it gets:

* **In the process and event loop in which it was opened**: the open backend. Tasks that need it at the same time wait
  for one opening.
* **In another process** (forked after the opening): a fresh backend. The old one is set aside untouched, since its
  sockets are the parent's. A backend that cannot be made again, because the caller handed it in or because it is
  memory, is refused.
* **In another event loop, the old one being closed** (one ``asyncio.run`` after the other): a fresh backend, and the
  old one is closed from here; memory goes on with what it holds. That is a connection for each loop: a program that
  enqueues often should keep one loop.
* **In another event loop, the old one still open** (several threads): refused. Each loop needs its own ``Soniq``.
* **In a process that lends one** (a worker of the daemon, which has its own): that one, which is not closed here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from soniqd.backends import StorageBackend
from soniqd.errors import ClosedError, ConfigurationError, DatabaseError

_CLOSE_S = 5.0

MakeBackend = Callable[[], StorageBackend]


class BackendLifecycle:
    """Holds the backend of one application. Exactly one of ``make`` and ``given`` is set.

    ``origin`` tells who named the database that ``make`` makes a backend of, for when it cannot be opened; "" is nobody
    that has to be named.
    """

    def __init__(
        self,
        *,
        make: MakeBackend | None = None,
        given: StorageBackend | None = None,
        origin: Callable[[], str] = lambda: "",
    ) -> None:
        self._make = make
        self._origin = origin
        self._backend = given
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._opening: asyncio.Task[None] | None = None
        self._closed = False
        self._lent = False
        self._set_aside: list[StorageBackend] = []
        self._left_over: list[StorageBackend] = []

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def opened(self) -> bool:
        """Whether it was opened, wherever that was."""
        return self._loop is not None

    @property
    def backend(self) -> StorageBackend:
        """The backend of this process, perhaps not open yet."""
        self._check_not_closed()
        if self._loop is not None and self._pid != os.getpid():
            self._leave_behind("another process, before a fork", self._set_aside)
        return self._made()

    async def open(self) -> StorageBackend:
        """Return the open backend; raises ClosedError, and what the backend's ``open`` raises."""
        loop = asyncio.get_running_loop()
        if self._loop is loop and self._pid == os.getpid() and self._backend is not None:
            return self._backend
        self._check_not_closed()
        if self._loop is not None:
            self._leave_place(loop)
        if self._opening is None or self._opening.get_loop() is not loop:
            self._opening = loop.create_task(self._open(loop))
            self._opening.add_done_callback(_retrieve)
        await asyncio.shield(self._opening)
        self._check_not_closed()
        return self._made()

    def borrow(self, backend: StorageBackend) -> None:
        """Go on with a backend that somebody else has opened in this process and loop, and will close."""
        self._check_not_closed()
        if self._loop is not None or self._opening is not None:
            raise ConfigurationError("cannot lend this Soniq a backend: it has opened its own already")
        self._backend, self._lent = backend, True
        self._loop, self._pid = asyncio.get_running_loop(), os.getpid()

    async def close(self) -> None:
        """Close what was opened here; a second call does nothing."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        if self._is_in_use_by_other_than(loop):
            raise ConfigurationError("cannot close this Soniq: it was opened in another event loop, which still runs")
        self._closed = True
        if self._opening is not None and self._opening.get_loop() is loop:
            with suppress(Exception):
                await asyncio.shield(self._opening)
        backend, self._backend = self._backend, None
        opened_in, self._loop = self._loop, None
        if backend is not None and not self._lent and self._pid in (0, os.getpid()):
            if opened_in in (None, loop):
                await backend.close()
            else:
                self._left_over.append(backend)
        await self._close_left_over()

    async def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        await self._close_left_over()
        backend = self._made()
        try:
            with told_of(self._origin):
                await backend.open()
        except BaseException:
            if self._make is not None:
                self._backend = None
            with suppress(Exception):
                await backend.close()
            raise
        finally:
            self._opening = None
        self._loop, self._pid = loop, os.getpid()

    async def _close_left_over(self) -> None:
        """Close what a closed loop has left; what such a backend still waits for in that loop never comes."""
        while self._left_over:
            with suppress(Exception):
                await asyncio.wait_for(self._left_over.pop().close(), _CLOSE_S)

    def _made(self) -> StorageBackend:
        if self._backend is None:
            if self._make is None:
                raise ClosedError("cannot use this Soniq: its backend is gone")
            self._backend = self._make()
        return self._backend

    def _check_not_closed(self) -> None:
        if self._closed:
            raise ClosedError("cannot use this Soniq: it was closed")

    def _is_in_use_by_other_than(self, loop: asyncio.AbstractEventLoop) -> bool:
        other = self._loop is not None and self._loop is not loop and not self._loop.is_closed()
        return other and self._pid == os.getpid()

    def _leave_place(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._pid != os.getpid():
            self._leave_behind("another process, before a fork", self._set_aside)
        elif self._is_in_use_by_other_than(loop):
            raise ConfigurationError(
                "cannot use this Soniq here: it was opened in another event loop, which still runs; "
                "make one for each loop"
            )
        elif self._backend is not None and not self._backend.capabilities.multi_process:
            self._loop = None
        else:
            self._leave_behind("another event loop, closed since", self._left_over)

    def _leave_behind(self, place: str, where_to: list[StorageBackend]) -> None:
        backend = self._backend
        if backend is not None and (self._make is None or not backend.capabilities.multi_process):
            raise ConfigurationError(
                f"cannot use this Soniq here: its backend was opened in {place}, and another one cannot be made from it"
            )
        if backend is not None and not self._lent:
            where_to.append(backend)
        self._backend, self._loop, self._opening = None, None, None
        self._lent = False


@contextmanager
def told_of(origin: Callable[[], str]) -> Iterator[None]:
    """Add to a database's error who named that database."""
    try:
        yield
    except DatabaseError as error:
        if named := origin():
            error.args = (f"{error.args[0]} ({named})", *error.args[1:])
        raise


def _retrieve(opening: asyncio.Task[None]) -> None:
    """Mark the error as seen: whoever waits gets it, and there may be nobody left who waits."""
    if not opening.cancelled():
        opening.exception()
