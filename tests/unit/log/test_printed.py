"""What is printed becomes lines of its job. The streams are made here, those of the test run stay as they are."""

from __future__ import annotations

import asyncio
import contextvars
import io
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

from soniqd.log.context import begin_job, end_job, job_id_var
from soniqd.log.formats import JsonFormat, TextFormat
from soniqd.log.printed import MOST_BYTES, LineWriter


class Outlet(logging.Handler):
    """Keeps what it gets: (job, text)."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str | None, str]] = []
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.lines.append((job_id_var.get(), record.getMessage()))

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.lines]


@pytest.fixture
def outlet() -> Outlet:
    return Outlet()


@pytest.fixture
def writer(outlet: Outlet) -> LineWriter:
    writer = LineWriter("stdout", 1)
    writer.start(outlet)
    return writer


@pytest.fixture
def stream(writer: LineWriter) -> io.TextIOWrapper:
    return io.TextIOWrapper(writer, encoding="utf-8", errors="backslashreplace", newline="", write_through=True)


def in_job(job_id: str, call: Any, *args: Any) -> Any:
    def run() -> Any:
        begin_job(job_id)
        return call(*args)

    return contextvars.Context().run(run)


def test_each_line_is_one_record(stream: io.TextIOWrapper, outlet: Outlet) -> None:
    print("one\ntwo", file=stream)
    print("three", "four", sep=" and ", file=stream)
    print(file=stream)
    assert outlet.texts == ["one", "two", "three and four", ""]


def test_a_record_names_its_stream_and_its_job(stream: io.TextIOWrapper, outlet: Outlet) -> None:
    in_job("job-1", print, "hello")
    in_job("job-1", lambda: print("hello", file=stream))
    assert outlet.lines == [("job-1", "hello")]
    [record] = outlet.records

    def render() -> tuple[str, dict[str, Any]]:
        return TextFormat("default/1")(record), json.loads(JsonFormat("default/1")(record))

    text, entry = in_job("job-1", render)
    assert text.endswith(f"INFO    default/1[{os.getpid()}] stdout: hello (job job-1)\n")
    assert {key: entry[key] for key in ("event", "message", "stream", "slot", "job_id", "level")} == {
        "event": "printed",
        "message": "hello",
        "stream": "stdout",
        "slot": "default/1",
        "job_id": "job-1",
        "level": "INFO",
    }


def test_a_line_may_come_in_pieces(stream: io.TextIOWrapper, outlet: Outlet) -> None:
    for piece in ("a", "b", "", "c\nd"):
        print(piece, end="", file=stream, flush=True)
    assert outlet.texts == ["abc"]
    print("e", file=stream)
    assert outlet.texts == ["abc", "de"]


async def test_pieces_of_concurrent_jobs_do_not_mix(stream: io.TextIOWrapper, outlet: Outlet) -> None:
    async def job(name: str) -> None:
        begin_job(name)
        for number in range(20):
            for piece in (name, f" {number}", "\n"):
                print(piece, end="", file=stream)
                await asyncio.sleep(0)

    await asyncio.gather(*(asyncio.create_task(job(name)) for name in ("a", "b", "c")))
    assert sorted(outlet.lines) == sorted((name, f"{name} {number}") for name in "abc" for number in range(20))


async def test_threads_of_one_job_do_not_mix_either(stream: io.TextIOWrapper, outlet: Outlet) -> None:
    barrier = threading.Barrier(3)

    def chatter(letter: str) -> None:
        for _ in range(20):
            print(letter, end="", file=stream)
            barrier.wait()
            print(letter, file=stream)

    begin_job("j")
    await asyncio.gather(*(asyncio.to_thread(chatter, letter) for letter in "xyz"))
    assert sorted(outlet.lines) == sorted([("j", letter * 2) for letter in "xyz" for _ in range(20)])


def test_what_a_job_has_not_ended_is_logged_with_its_end(
    writer: LineWriter, stream: io.TextIOWrapper, outlet: Outlet
) -> None:
    in_job("a", lambda: print("half", end="", file=stream))
    in_job("b", lambda: print("other", end="", file=stream))
    assert outlet.lines == []
    writer.end_job("a")
    assert outlet.lines == [("a", "half")]
    writer.end_lines()
    assert outlet.lines == [("a", "half"), ("b", "other")]
    writer.end_lines()
    assert len(outlet.lines) == 2


def test_bytes_and_text_keep_their_order(stream: io.TextIOWrapper, outlet: Outlet) -> None:
    stream.write("text ")
    buffer: Any = stream.buffer
    assert buffer.write(b"bytes ") == 6
    assert buffer.write(memoryview(b"more\n")) == 5
    assert buffer.write(bytearray(b"\xff\x00 no text\n")) == 11
    buffer.flush()
    assert outlet.texts == ["text bytes more", "\\xff\x00 no text"]


def test_unicode_arrives_whole_and_nothing_raises(stream: io.TextIOWrapper, outlet: Outlet) -> None:
    print("Grüße, 世界 🎉", file=stream)
    print("torn \udce4 surrogate", file=stream)
    assert outlet.texts == ["Grüße, 世界 🎉", "torn \\udce4 surrogate"]


@pytest.mark.parametrize("character", ["x", "ü", "世", "🎉"])
def test_a_very_long_line_is_cut_between_characters(stream: io.TextIOWrapper, outlet: Outlet, character: str) -> None:
    line = "." + character * (3 * MOST_BYTES)
    print(line, file=stream)
    assert "".join(outlet.texts) == line
    assert all(len(text.encode()) <= MOST_BYTES for text in outlet.texts)
    assert [getattr(record, "fields", {}).get("goes_on", False) for record in outlet.records] == [
        *[True] * (len(outlet.records) - 1),
        False,
    ]
    assert " [...]\n" in TextFormat("x")(outlet.records[0])


def test_a_line_without_end_does_not_pile_up(writer: LineWriter, outlet: Outlet) -> None:
    for _ in range(1000):
        writer.write(b"x" * 1000)
    assert sum(len(text) for text in outlet.texts) >= 1_000_000 - MOST_BYTES
    writer.end_lines()
    assert sum(len(text) for text in outlet.texts) == 1_000_000


def test_a_hundred_megabytes_at_once_arrive(writer: LineWriter) -> None:
    class Counter(logging.Handler):
        lines = characters = 0

        def emit(self, record: logging.LogRecord) -> None:
            self.lines += 1
            self.characters += len(record.msg)

    counter = Counter()
    writer.start(counter)
    writer.write((b"y" * 999_999 + b"\n") * 100)
    assert counter.characters == 99_999_900
    assert counter.lines == 100 * -(-999_999 // MOST_BYTES)


def test_a_progress_bar_is_what_it_was_last(writer: LineWriter, stream: io.TextIOWrapper, outlet: Outlet) -> None:
    for percent in range(0, 101, 10):
        print(f"\r{percent}%", end="", file=stream)
    print(file=stream)
    for percent in range(0, 101, 10):
        print(f"{percent}%", end="\r", file=stream)
    print("windows\r", file=stream)
    in_job("j", lambda: print("10%\r20%\r", end="", file=stream))
    writer.end_job("j")
    assert outlet.texts == ["100%", "windows", "20%"]


def test_a_progress_bar_does_not_pile_up(writer: LineWriter, outlet: Outlet) -> None:
    for number in range(100_000):
        writer.write(b"\r%d of 100000" % number)
    assert outlet.texts == []
    writer.end_lines()
    assert outlet.texts == ["99999 of 100000"]


def test_it_is_what_libraries_expect_of_a_stdout(stream: io.TextIOWrapper, outlet: Outlet) -> None:
    assert stream.fileno() == 1
    assert (stream.isatty(), stream.writable(), stream.readable(), stream.seekable()) == (False, True, False, False)
    assert (stream.encoding, stream.errors, stream.name) == ("utf-8", "backslashreplace", "<stdout>")
    assert stream.write("five\n") == 5
    stream.writelines(["a\n", "b\n"])
    stream.reconfigure(line_buffering=True)
    io.TextIOWrapper(stream.buffer, encoding="utf-8", line_buffering=True).write("wrapped\n")
    print("still open", file=stream)
    handler = logging.StreamHandler(stream)
    handler.handle(logging.makeLogRecord({"msg": "of a handler that a job made"}))
    assert outlet.texts == ["five", "a", "b", "wrapped", "still open", "of a handler that a job made"]


def test_a_signal_handler_may_print_while_printing(writer: LineWriter) -> None:
    """And whatever else is called while a line is on its way, in the same thread."""

    class Interrupted(Outlet):
        def emit(self, record: logging.LogRecord) -> None:
            super().emit(record)
            if record.getMessage() == "outer":
                writer.write(b"inner\n")

    outlet = Interrupted()
    writer.start(outlet)
    writer.write(b"outer\nrest\n")
    assert outlet.texts == ["outer", "inner", "rest"]


def run_program(source: str) -> tuple[str, list[str]]:
    """Run a program that has prepared its streams; return its stdout and what was logged."""
    head = """
        import logging, multiprocessing, os, subprocess, sys, threading
        from soniqd.log import printed
        from soniqd.log.context import begin_job, end_job, job_id_var
        from soniqd.log.setup import configure_logging
        printed.prepare()
        early = sys.stdout
    """
    program = textwrap.dedent(head) + textwrap.dedent(source)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    lines = [line.partition("] ")[2] if "] " in line else line for line in done.stderr.splitlines()]
    return done.stdout, lines


def test_before_the_capture_everything_passes_as_it_is() -> None:
    out, err = run_program("""
        print("import time")
        print("no newline", end="")
        print("problem", file=sys.stderr)
        sys.stdout.buffer.write(b" bytes")
    """)
    assert out == "import time\nno newline bytes"
    assert err == ["problem"]


def test_streams_that_an_application_has_kept_are_captured() -> None:
    out, err = run_program("""
        handler = logging.StreamHandler(sys.stdout)
        printed.capture(configure_logging("ERROR", "text"))
        print("kept", file=early)
        handler.handle(logging.makeLogRecord({"msg": "through a handler"}))
        print("to stderr", file=sys.stderr)
    """)
    assert (out, err) == ("", ["stdout: kept", "stdout: through a handler", "stderr: to stderr"])


def test_what_bypasses_python_goes_where_it_ever_went() -> None:
    out, err = run_program("""
        printed.capture(configure_logging("INFO", "text"))
        subprocess.run(["echo", "from a program"], check=True)
        subprocess.run(["echo", "through fileno()"], stdout=sys.stdout, check=True)
        os.write(1, b"written\\n")
    """)
    assert (out, err) == ("from a program\nthrough fileno()\nwritten\n", [])


def test_a_process_that_a_job_forks_has_the_jobs_lines_and_only_its_own() -> None:
    out, err = run_program("""
        printed.capture(configure_logging("INFO", "text"))
        begin_job("j1")
        print("parent's half, ", end="")
        context = multiprocessing.get_context("fork")
        child = context.Process(target=lambda: print("child's line\\nchild's half", end=""))
        child.start()
        child.join()
        print("the rest")
    """)
    assert (out, err) == (
        "",
        ["stdout: child's line (job j1)", "stdout: child's half (job j1)", "stdout: parent's half, the rest (job j1)"],
    )


def test_a_fork_while_another_thread_prints_does_not_stop_the_child() -> None:
    out, err = run_program("""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, from Python 3.12 on
        printed.capture(configure_logging("INFO", "text"))
        stop = threading.Event()
        def chatter():
            while not stop.is_set():
                print("x")
        thread = threading.Thread(target=chatter)
        thread.start()
        codes = []
        for _ in range(30):
            pid = os.fork()
            if pid == 0:
                print("child")
                os._exit(7)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        stop.set()
        thread.join()
        assert codes == [7] * 30
    """)
    assert out == ""
    assert err.count("stdout: child") == 30
    assert set(err) == {"stdout: child", "stdout: x"}


def test_an_outlet_can_join_and_leave() -> None:
    out, err = run_program("""
        printed.capture(configure_logging("INFO", "text"))
        lines = []
        class Second(logging.Handler):
            def emit(self, record):
                lines.append(record.getMessage())
        second = Second()
        print("one")
        printed.add_outlet(second)
        printed.add_outlet(second)
        print("two")
        printed.remove_outlet(second)
        print("three")
        assert lines == ["two"]
    """)
    assert (out, err) == ("", ["stdout: one", "stdout: two", "stdout: three"])


def test_the_end_of_a_job_costs_nothing_where_nothing_is_captured() -> None:
    out, _ = run_program("""
        printed.end_job("j")
        print("half", end="")
        printed.end_lines()
    """)
    assert out == "half"


def test_a_process_without_stdout_can_be_prepared() -> None:
    program = "import os, sys; os.close(1); sys.stdout = None; from soniqd.log import printed; printed.prepare()"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_a_job_that_has_ended_owns_nothing_of_a_thread() -> None:
    seen: list[str | None] = []

    def run() -> None:
        begin_job("j")
        end_job("j")
        seen.append(job_id_var.get())

    contextvars.Context().run(run)
    assert seen == ["j"]  # its own context keeps it: hooks after the job belong to it
