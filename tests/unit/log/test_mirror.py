from __future__ import annotations

import contextvars
import json
import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from soniqd.log import Event, emit
from soniqd.log.context import job_id_var
from soniqd.log.mirror import MOST_BYTES, Mirror, encode_entry

STARTED = Event("started", logging.INFO, "started with {count} workers")
ABOUT = Event("about", logging.WARNING, "{job_id} is retried")

pytestmark = pytest.mark.usefixtures("clean_logging")


class Tap:
    """The master's end."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.near.setblocking(False)

    def read(self) -> list[dict[str, Any]]:
        entries = []
        while True:
            try:
                entries.append(json.loads(self.near.recv(1 << 20)))
            except BlockingIOError:
                return entries


@pytest.fixture
def tap() -> Iterator[Tap]:
    tap = Tap()
    yield tap
    tap.near.close()
    tap.far.close()


@pytest.fixture
def mirror(tap: Tap) -> Iterator[Mirror]:
    logging.getLogger().setLevel(logging.DEBUG)
    logging.getLogger("soniqd").setLevel(logging.DEBUG)
    logging.getLogger("soniqd").propagate = False
    mirror = Mirror(tap.far, slot="default/1")
    yield mirror
    mirror.stop()


def in_job(job_id: str, call: Any) -> None:
    def run() -> None:
        job_id_var.set(job_id)
        call()

    contextvars.Context().run(run)


def test_it_is_attached_to_nothing_while_nobody_follows(mirror: Mirror, tap: Tap) -> None:
    loggers = (logging.getLogger(), logging.getLogger("soniqd"))
    emit(STARTED, count=1)
    assert not any(mirror in logger.handlers for logger in loggers)
    mirror.follow(logging.INFO)
    assert all(mirror in logger.handlers for logger in loggers)
    mirror.stop()
    emit(STARTED, count=2)
    assert not any(mirror in logger.handlers for logger in loggers)
    assert tap.read() == []


def test_events_and_loggers_are_copied_with_all_their_fields(mirror: Mirror, tap: Tap) -> None:
    mirror.follow(logging.INFO)
    emit(STARTED, count=2)
    in_job("j1", lambda: logging.getLogger("app").error("no %s", "luck"))
    started, failed = tap.read()
    assert (started["event"], started["count"], started["slot"]) == ("started", 2, "default/1")
    assert (failed["logger"], failed["message"], failed["job_id"]) == ("app", "no luck", "j1")


def test_following_twice_copies_once(mirror: Mirror, tap: Tap) -> None:
    mirror.follow(logging.INFO)
    mirror.follow(logging.DEBUG)
    emit(STARTED, count=2)
    assert len(tap.read()) == 1


def test_only_the_level_asked_for_is_copied(mirror: Mirror, tap: Tap) -> None:
    mirror.follow(logging.WARNING)
    emit(STARTED, count=2)
    logging.getLogger("app").warning("careful")
    assert [entry["message"] for entry in tap.read()] == ["careful"]


def test_only_the_jobs_asked_for_are_copied_what_is_said_about_them_too(mirror: Mirror, tap: Tap) -> None:
    mirror.follow(logging.INFO, jobs=("j1",))
    for job_id in ("j1", "j2"):
        in_job(job_id, lambda: logging.getLogger("app").info("by it"))
        emit(ABOUT, job_id=job_id)
    emit(STARTED, count=1)
    assert [(entry["message"], entry["job_id"]) for entry in tap.read()] == [
        ("by it", "j1"),
        ("j1 is retried", "j1"),
    ]


def test_a_full_tap_loses_lines_waits_for_nobody_and_says_so(mirror: Mirror, tap: Tap) -> None:
    mirror.follow(logging.INFO)
    log = logging.getLogger("app")
    for number in range(5000):
        log.info("%d %s", number, "x" * 1000)
    kept = len(tap.read())
    assert 0 < kept < 5000
    log.info("again")
    lost, again = tap.read()
    assert (lost["event"], lost["lost"], lost["slot"]) == ("lines_lost", 5000 - kept, "default/1")
    assert again["message"] == "again"


def test_a_loss_is_told_though_nothing_more_is_logged(mirror: Mirror, tap: Tap) -> None:
    mirror.follow(logging.INFO)
    for _ in range(5000):
        logging.getLogger("app").info("x" * 1000)
    mirror.tell_lost()  # there is no room for it now
    kept = len(tap.read())
    mirror.tell_lost()
    mirror.tell_lost()
    assert [entry["lost"] for entry in tap.read()] == [5000 - kept]


def test_a_master_that_is_gone_is_no_error(mirror: Mirror, tap: Tap) -> None:
    mirror.follow(logging.INFO)
    tap.near.close()
    logging.getLogger("app").info("to nobody")
    logging.getLogger("app").info("nor this")
    mirror.tell_lost()


def test_a_record_that_cannot_be_formatted_is_no_error(mirror: Mirror, tap: Tap) -> None:
    mirror.follow(logging.INFO)
    mirror.handle(logging.makeLogRecord({"msg": "%d apples", "args": ("many",), "levelno": logging.INFO}))
    logging.getLogger("app").info("next")
    assert [entry["message"] for entry in tap.read()] == ["next"]


def test_what_is_too_long_for_a_datagram_is_cut_and_says_so(mirror: Mirror, tap: Tap) -> None:
    mirror.follow(logging.INFO)
    in_job("j1", lambda: logging.getLogger("app").info("begin %s end", "\x00" * 200_000, extra={"more": "x" * 100_000}))
    [entry] = tap.read()
    assert entry["message"].startswith("begin ")
    assert entry["message"].endswith(" end")
    assert "characters ..." in entry["message"]
    assert entry["job_id"] == "j1"


def test_a_long_traceback_keeps_its_ends_and_its_neighbours() -> None:
    trace = "first\n" + "x\n" * 20_000 + "last"
    entry = json.loads(encode_entry({"event": "failed", "slot": "a/1", "traceback": trace}, most_bytes=16 * 1024))
    assert (entry["event"], entry["slot"]) == ("failed", "a/1")
    assert entry["traceback"].startswith("first\n")
    assert entry["traceback"].endswith("last")
    assert len(entry["traceback"]) > 5000


@pytest.mark.parametrize("value", ["é" * 100_000, ["x"] * 100_000, {"a": "b" * 100_000}], ids=type)
def test_no_entry_is_longer_than_its_bound(value: Any) -> None:
    entry = dict.fromkeys(("ts", "level", "event", "message", "slot", "job_id", "traceback", "other"), value)
    assert len(encode_entry(entry)) <= MOST_BYTES
    assert len(encode_entry(entry, most_bytes=16 * 1024)) <= 16 * 1024
