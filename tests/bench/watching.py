"""Look at a daemon from outside, many times a second: who works in which place, and how many connections there are.

What a process does is read from its title, as ps(1) shows it: neither the master nor its socket is asked, so that a
master that executes itself anew is seen like any other.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from tests.support.daemon import Daemon
from tests.support.processes import find_process

_INTERVAL_S = 0.02
_TITLE = re.compile(r"^soniqd: (?:worker (?P<slot>\S+)|(?P<role>scheduler|fork server)).*?(?:\[(?P<activity>.*)\])?$")
_ABLE = re.compile(r"^(idle|\d+ running|leading|following)$")


@dataclass(frozen=True, slots=True)
class Seen:
    """One process: ``place`` is a slot of a worker, ``scheduler`` or ``fork server``; ``able``: it does its work."""

    pid: int
    place: str
    able: bool


class Onlooker:
    """Reads titles, and of processes that are not the daemon's nothing twice."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._strangers: set[int] = set()

    def look(self) -> list[Seen]:
        """Return what runs now, the master left out, older processes before their successors."""
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208  as often as this
        self._strangers &= pids
        found = []
        for pid in sorted(pids - self._strangers):
            process = find_process(pid)
            if process is None or process.session != self._daemon.pid:
                self._strangers.add(pid)
            elif process.state not in "ZX" and (title := _TITLE.match(process.command)):
                able = bool(_ABLE.match(title["activity"] or ""))
                found.append(Seen(pid, title["slot"] or title["role"], able))
        return found


@dataclass(frozen=True, slots=True)
class Gap:
    """A place that nobody worked in although nobody was killed there."""

    place: str
    at: str
    last_pid: int | None


class Capacity:
    """Holds that each wanted place has somebody who works in it, except where somebody was killed or is to come.

    A place has to be found empty twice in a row: a new worker says that it is ready a moment before its title does.
    """

    def __init__(self, daemon: Daemon, wanted: dict[str, int]) -> None:
        self.samples = 0
        self.gaps: list[Gap] = []
        self._onlooker = Onlooker(daemon)
        self._wanted: dict[str, int] = {}
        self._excused: set[str] = set()
        self._doomed: set[int] = set()
        self._empty: dict[str, int] = {}
        self._last: dict[str, int] = {}
        for group, processes in wanted.items():
            self.want(group, processes)

    def want(self, group: str, processes: int) -> None:
        """From now on so many places count; new ones do as soon as they have been filled for the first time."""
        before = self._wanted.get(group, 0)
        self._excused |= {f"{group}/{index}" for index in range(before + 1, processes + 1)}
        self._wanted[group] = processes

    def wanted(self, group: str) -> int:
        """Return how many places of a group count."""
        return self._wanted[group]

    def excuse(self, place: str, pid: int) -> None:
        """Somebody is about to be killed in this place: until somebody else fills it, it may be empty."""
        self._excused.add(place)
        self._doomed.add(pid)

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_INTERVAL_S)

    def look(self) -> None:
        """Take one sample."""
        self.samples += 1
        able: dict[str, list[int]] = defaultdict(list)
        for seen in self._onlooker.look():
            if seen.able and seen.pid not in self._doomed:
                able[seen.place].append(seen.pid)
        for place in self._places():
            if able[place]:
                self._excused.discard(place)
                self._empty.pop(place, None)
                self._last[place] = able[place][-1]
            elif place not in self._excused:
                self._empty[place] = self._empty.get(place, 0) + 1
                if self._empty[place] == 2:
                    self.gaps.append(Gap(place, datetime.now(UTC).isoformat(), self._last.get(place)))

    def _places(self) -> Iterator[str]:
        for group, processes in self._wanted.items():
            for index in range(1, processes + 1):
                yield f"{group}/{index}"


class Connections:
    """Counts a daemon's connections to PostgreSQL from a thread of its own, so that no sample waits for the loop."""

    def __init__(self, url: str) -> None:
        self.most = 0
        self.samples = 0
        self.error: Exception | None = None
        self._url = url
        self._ended = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count for as long as the block lasts."""
        thread = threading.Thread(target=self._run, name="connections")
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _run(self) -> None:
        try:
            with psycopg.connect(self._url, autocommit=True, application_name="watch") as connection:
                while not self._ended.wait(_INTERVAL_S):
                    row = connection.execute(
                        "SELECT count(*) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND application_name LIKE 'soniqd%'"
                    ).fetchone()
                    assert row is not None
                    self.most = max(self.most, row[0])
                    self.samples += 1
        except Exception as error:
            self.error = error
