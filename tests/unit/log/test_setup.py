import asyncio
import contextlib
import fcntl
import json
import logging
import logging.config
import os
import re
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from soniqd.log import Event, emit, setup
from soniqd.log.context import job_id_var
from soniqd.log.formats import JournaldFormat, JsonFormat, TextFormat
from soniqd.log.setup import LineHandler, change_logging, configure_logging, make_format

STARTED = Event("started", logging.INFO, "started with {count} workers")
FAILED = Event("failed", logging.ERROR, "failed {count} times")
DETAIL = Event("detail", logging.DEBUG, "detail {count}")

pytestmark = pytest.mark.usefixtures("clean_logging")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        with contextlib.suppress(OSError):  # a test may have closed it
            os.close(fd)


@pytest.fixture
def lines(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What was written to stderr so far."""
    reader, writer = pipe
    os.set_blocking(reader, False)
    monkeypatch.setattr(setup, "_STDERR", writer)
    monkeypatch.setattr(LineHandler.__init__, "__kwdefaults__", {"fd": writer})

    def read() -> list[str]:
        try:
            return os.read(reader, 1 << 20).decode().splitlines()
        except BlockingIOError:
            return []

    return read


def test_an_event_becomes_one_line(lines: Callable[[], list[str]]) -> None:
    configure_logging("INFO", "json", slot="master")
    emit(STARTED, count=2)
    [line] = lines()
    entry = json.loads(line)
    assert (entry["event"], entry["count"], entry["slot"]) == ("started", 2, "master")


def test_a_changed_level_and_form_hold_for_the_log_and_leave_other_listeners_alone(
    lines: Callable[[], list[str]],
) -> None:
    heard: list[str] = []
    listener = logging.Handler(logging.INFO)
    listener.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    configure_logging("INFO", "json")
    logging.getLogger("soniqd").addHandler(listener)
    change_logging("DEBUG", "json")
    emit(DETAIL, count=1)
    change_logging("ERROR", "text")
    emit(STARTED, count=2)
    emit(FAILED, count=3)
    first, second = lines()
    assert json.loads(first)["event"] == "detail"
    assert second.endswith("failed 3 times")
    assert heard == ["started with 2 workers", "failed 3 times"]


def test_an_event_below_the_level_is_not_formatted(lines: Callable[[], list[str]]) -> None:
    class Costly:
        def __format__(self, spec: str) -> str:
            raise AssertionError("formatted")

    configure_logging("INFO", "text")
    emit(DETAIL, count=Costly())
    assert lines() == []


def test_loggers_of_jobs_go_the_same_way(lines: Callable[[], list[str]]) -> None:
    configure_logging("INFO", "text", slot="default/1")
    logging.getLogger("myapp.mail").info("sent %d", 3)
    [line] = lines()
    assert line.endswith(f"default/1[{os.getpid()}] myapp.mail: sent 3")


def test_warnings_become_log_lines(lines: Callable[[], list[str]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure_logging("INFO", "json")
        warnings.warn("old", UserWarning, stacklevel=1)
    [line] = lines()
    assert json.loads(line)["logger"] == "py.warnings"


async def test_the_job_id_follows_into_threads(lines: Callable[[], list[str]]) -> None:
    configure_logging("INFO", "json", slot="default/1")
    log = logging.getLogger("myapp")

    async def job(job_id: str) -> None:
        job_id_var.set(job_id)
        await asyncio.to_thread(log.info, "from a thread")

    await asyncio.gather(job("a"), job("b"))
    assert sorted(json.loads(line)["job_id"] for line in lines()) == ["a", "b"]


def test_configuring_again_renames_without_doubling(lines: Callable[[], list[str]]) -> None:
    configure_logging("INFO", "text", slot="forkserver")
    configure_logging("INFO", "text", slot="default/1")
    emit(STARTED, count=1)
    logging.getLogger("myapp").info("x")
    assert [re.split(r"\s+", line)[3].partition("[")[0] for line in lines()] == ["default/1", "default/1"]


def test_what_a_jobs_module_configures_stays_and_soniqds_events_too(lines: Callable[[], list[str]]) -> None:
    configure_logging("INFO", "text")
    theirs = logging.NullHandler()
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": True, "root": {"handlers": []}})
    logging.getLogger().handlers[:] = [theirs]
    configure_logging("INFO", "text", slot="default/1")
    emit(STARTED, count=1)
    logging.getLogger("myapp").warning("goes to their handler")
    assert len(lines()) == 1
    assert logging.getLogger().handlers == [theirs]


def test_a_broken_logging_call_is_reported_and_not_raised(lines: Callable[[], list[str]]) -> None:
    configure_logging("INFO", "text")
    logging.getLogger("myapp").info("%d apples", "many")
    [line] = lines()
    assert "cannot format the log record from" in line
    assert "test_setup.py" in line


def test_a_reader_that_is_gone_raises_nothing(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    handler = LineHandler(TextFormat("m"), fd=writer)
    handler.handle(logging.makeLogRecord({"msg": "x"}))


def test_a_full_disk_raises_nothing() -> None:
    with Path("/dev/full").open("wb") as full:
        handler = LineHandler(TextFormat("m"), fd=full.fileno())
        handler.handle(logging.makeLogRecord({"msg": "x"}))


def test_a_closed_stderr_raises_nothing(pipe: tuple[int, int]) -> None:
    os.close(pipe[1])
    LineHandler(TextFormat("m"), fd=pipe[1]).handle(logging.makeLogRecord({"msg": "x"}))


def test_lines_lost_to_a_stuck_reader_are_counted(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "_PATIENCE_S", 0.001)
    reader, writer = pipe
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    handler = LineHandler(JsonFormat("m"), fd=writer)
    for _ in range(10):
        handler.handle(logging.makeLogRecord({"msg": "y" * 1000}))
    os.read(reader, 1 << 20)
    handler.handle(logging.makeLogRecord({"msg": "back"}))
    complaint, back = [json.loads(line) for line in os.read(reader, 1 << 20).decode().split("\n") if line]
    assert re.fullmatch(r"\d+ log lines could not be written and are lost", complaint["message"])
    assert back["message"] == "back"


def test_a_stuck_reader_of_a_blocking_stderr_stalls_nobody(pipe: tuple[int, int]) -> None:
    """Written by another process, which a regression would leave blocked for ever."""
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    program = textwrap.dedent("""
        import logging
        from soniqd.log.setup import configure_logging
        configure_logging("INFO", "json")
        for _ in range(200):
            logging.getLogger("x").error("y" * 1000)
    """)
    subprocess.run([sys.executable, "-c", program], stderr=writer, check=True, timeout=20)
    os.set_blocking(reader, False)
    lines = os.read(reader, 1 << 20).decode().splitlines()
    assert all(json.loads(line)["message"] == "y" * 1000 for line in lines)


def test_a_line_longer_than_what_a_pipe_takes_at_once_arrives_whole(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    LineHandler(JsonFormat("m"), fd=writer).handle(logging.makeLogRecord({"msg": "y" * 20_000}))
    assert json.loads(os.read(reader, 1 << 20))["message"] == "y" * 20_000


def test_a_torn_line_does_not_swallow_the_next(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "_PATIENCE_S", 0.001)
    reader, writer = pipe
    os.set_blocking(writer, False)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    handler = LineHandler(JsonFormat("m"), fd=writer)
    handler.handle(logging.makeLogRecord({"msg": "y" * 10_000}))
    os.read(reader, 1 << 20)
    handler.handle(logging.makeLogRecord({"msg": "next"}))
    assert json.loads(os.read(reader, 1 << 20).decode().splitlines()[-1])["message"] == "next"


def test_lines_of_several_threads_do_not_mix(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    handlers = [LineHandler(TextFormat(f"w/{n}"), fd=writer) for n in range(4)]

    def write(handler: LineHandler, letter: str) -> None:
        for _ in range(200):
            handler.handle(logging.makeLogRecord({"msg": letter * 500, "name": "t", "levelname": "INFO"}))

    threads = [threading.Thread(target=write, args=pair) for pair in zip(handlers, "abcd", strict=True)]
    for thread in threads:
        thread.start()
    received = b""
    while received.count(b"\n") < 800:
        received += os.read(reader, 65536)
    for thread in threads:
        thread.join()
    assert all(re.search(r" t: (a+|b+|c+|d+)$", line) for line in received.decode().splitlines())


def test_a_fork_while_another_thread_logs_leaves_the_child_able_to() -> None:
    program = textwrap.dedent("""
        import logging, os, threading
        from soniqd.log.setup import configure_logging
        configure_logging("INFO", "text")
        log, stop = logging.getLogger("x"), threading.Event()
        def chatter():
            while not stop.is_set():
                log.info("y")
        thread = threading.Thread(target=chatter)
        thread.start()
        codes = []
        for _ in range(30):
            if not (pid := os.fork()):
                log.info("child")
                os._exit(7)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        stop.set()
        thread.join()
        assert codes == [7] * 30
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr.count("x: child\n") == 30


def test_auto_is_the_journal_only_if_stderr_is_it(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "_STDERR", pipe[1])
    status = os.fstat(pipe[1])
    ours, another = f"{status.st_dev}:{status.st_ino}", f"{status.st_dev}:{status.st_ino + 1}"
    assert isinstance(make_format("auto", slot=None, environ={"JOURNAL_STREAM": ours}), JournaldFormat)
    assert isinstance(make_format("auto", slot=None, environ={"JOURNAL_STREAM": another}), TextFormat)
    assert isinstance(make_format("auto", slot=None, environ={}), TextFormat)


@pytest.mark.parametrize(
    ("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)], ids=str
)
def test_a_terminal_gets_colour_unless_it_refuses(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], coloured: bool
) -> None:
    master, slave = os.openpty()
    try:
        monkeypatch.setattr(setup, "_STDERR", slave)
        render = make_format("text", slot=None, environ=environ)
        assert ("\x1b" in render(logging.makeLogRecord({"msg": "x", "levelno": 20}))) is coloured
    finally:
        os.close(master)
        os.close(slave)


def test_a_process_without_stderr_runs_on() -> None:
    program = textwrap.dedent("""
        import logging, os
        os.close(2)
        from soniqd.log.setup import configure_logging
        configure_logging("INFO", "auto")
        logging.getLogger("x").error("nobody hears this")
        print("done")
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "done\n"
