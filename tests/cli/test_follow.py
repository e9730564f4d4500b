"""`soniqctl logs` and `events` against a master that tells what a test says."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from soniqd.cli.lines import render
from soniqd.control.stream import Stream
from tests.support.waiting import eventually_sync

BIN = Path(sys.executable).parent

LINE: dict[str, Any] = {
    "ts": "2026-11-22T12:00:00.123456Z",
    "level": "INFO",
    "event": "printed",
    "message": "hello",
    "slot": "default/1",
    "pid": 4711,
    "job_id": "0191-job",
    "stream": "stdout",
}


class Told:
    """A stream that the fake master has opened for a command."""

    def __init__(self, master: Any, command: str) -> None:
        self.params: list[dict[str, Any]] = []
        self._entries: list[dict[str, Any]] = []
        self._ends = False
        self._streams: list[Stream] = []
        self._loop = master._loop
        master.answers[command] = self._open

    def first(self, *entries: dict[str, Any], ends: bool = True) -> None:
        """Tell these at once, and then no more."""
        self._entries, self._ends = list(entries), ends

    def then(self, entry: dict[str, Any]) -> None:
        self._loop.call_soon_threadsafe(self._streams[-1].offer, entry, 100)

    def _open(self, params: dict[str, Any]) -> Stream:
        self.params.append(params)
        stream = Stream(lost=lambda count: {"lost": count})
        self._streams.append(stream)
        for entry in self._entries:
            stream.offer(entry, 100)
        if self._ends:
            stream.end()
        return stream


@pytest.fixture
def logs(master):
    return Told(master, "logs")


@pytest.fixture
def events(master):
    return Told(master, "events")


@pytest.fixture
def following(tmp_path, master):
    """Start soniqctl as a process of its own."""
    started = []

    def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(BIN / "soniqctl"), "--socket", str(master.path), *arguments],
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=tmp_path,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_line_has_its_time_level_process_job_and_message(logs, soniqctl):
    logs.first(LINE)
    result = soniqctl("logs", "--follow")
    assert result.stdout == "2026-11-22 12:00:00.123 INFO    default/1[4711] 0191-job stdout: hello\n"
    assert result.stderr == "soniqd has stopped\n"


@pytest.mark.parametrize("arguments", [("--json", "logs", "-f"), ("logs", "-f", "--json")])
def test_json_is_one_object_a_line(logs, soniqctl, arguments):
    logs.first(LINE, LINE | {"message": "two\nlines"})
    assert [json.loads(line) for line in soniqctl(*arguments).stdout.splitlines()] == [
        LINE,
        LINE | {"message": "two\nlines"},
    ]


def test_filters_reach_the_daemon(logs, soniqctl):
    logs.first()
    job = "01a2047c-bb81-7c48-86ef-491fd950ad51"
    soniqctl("logs", "--follow", "--job", job, "--group", "mail", "--slot", "mail/1", "--level", "warning")
    assert logs.params == [{"job": job, "group": "mail", "slot": "mail/1", "level": "WARNING"}]


def test_logs_without_follow_says_where_earlier_lines_are(soniqctl):
    assert "journalctl -u soniqd" in soniqctl("logs", expect=2).stderr


def test_a_daemon_that_is_not_there_is_not_waited_for(soniqctl):
    assert "no such socket" in soniqctl("logs", "--follow", expect=3).stderr


def test_a_refusal_is_an_error(master, soniqctl):
    from soniqd.errors import ControlError

    master.answers["logs"] = ControlError("cannot follow x: there is no such group")
    assert soniqctl("logs", "--follow", "--group", "x", expect=1).stderr == (
        "soniqctl: cannot follow x: there is no such group\n"
    )


def test_events_are_shown_and_that_is_all(events, soniqctl):
    entry = LINE | {"event": "child_died", "level": "WARNING", "source": "soniqd", "message": "default/1 died"}
    del entry["stream"], entry["job_id"]
    events.first(entry)
    result = soniqctl("events")
    assert result.stdout == "2026-11-22 12:00:00.123 WARNING soniqd default/1 died\n"
    assert result.stderr == ""
    assert events.params[0] == {
        "follow": False,
        "last": None,
        "names": [],
        "group": None,
        "slot": None,
        "level": None,
    }


def test_events_followed_begin_with_the_last_ten(events, soniqctl):
    events.first()
    soniqctl("events", "--follow")
    soniqctl("events", "--follow", "-n", "3", "--event", "child_died", "--event", "child_left")
    assert [(params["last"], params["names"]) for params in events.params] == [
        (10, []),
        (3, ["child_died", "child_left"]),
    ]


def test_an_event_that_does_not_exist_is_not_waited_for(soniqctl):
    assert 'did you mean "child_died"?' in soniqctl("events", "--event", "child_dead", expect=2).stderr


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"stream": "stderr"}, "stderr: hello"),
        ({"goes_on": True}, "stdout: hello [...]"),
        ({"event": "log", "logger": "app.mail", "stream": None}, "app.mail: hello"),
        ({"event": "job_failed", "stream": None}, "hello"),
        ({"message": "tab\tand \x1b[31mred\x07"}, "stdout: tab    and \\x1b[31mred\\x07"),
        ({"message": "new\nline"}, "stdout: new\\nline"),
    ],
    ids=str,
)
def test_what_stands_at_the_end_of_a_line(change, line):
    assert render(LINE | change, colour=False).endswith(f" 0191-job {line}\n")


def test_a_traceback_is_indented_below_its_line():
    shown = render(LINE | {"traceback": "Traceback:\n  File x\x1b[2J\nError: no\n"}, colour=False)
    assert shown.splitlines()[1:] == ["    | Traceback:", "    |   File x\\x1b[2J", "    | Error: no"]


def test_lost_lines_are_told_by_the_process_that_lost_them():
    entry = {"event": "lines_lost", "slot": "default/1", "pid": 7, "lost": 9, "message": "9 lines were left out"}
    assert render(entry, colour=False) == "-- default/1[7]: 9 lines were left out\n"


@pytest.mark.parametrize("entry", [{}, {"ts": 1, "level": None, "pid": [], "message": {}}, {"traceback": 3}], ids=str)
def test_an_entry_of_another_release_is_shown_as_well_as_can_be(entry):
    assert render(entry, colour=True).endswith("\n")


def test_a_terminal_has_colours_and_each_job_its_own(following, logs, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    jobs = [f"job-{number}" for number in range(20)]
    logs.first(*(LINE | {"job_id": job} for job in jobs))
    near, far = pty.openpty()
    following("logs", "--follow", stdout=far)
    os.close(far)
    shown = ""
    while shown.count("\n") < len(jobs):
        shown += os.read(near, 65536).decode()
    os.close(near)
    colours = {line.split("job-")[0].rsplit("\x1b[", 1)[1] for line in shown.splitlines()}
    assert len(colours) > 3
    assert "\x1b[32mINFO" in shown


def test_ctrl_c_ends_it_quietly(following, logs):
    logs.first(LINE, ends=False)
    process = following("logs", "--follow")
    assert process.stdout is not None
    assert "hello" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 0


def test_a_reader_that_leaves_ends_it_though_nothing_more_happens(following, logs):
    """As in `soniqctl logs --follow | head -1`."""
    logs.first(LINE, ends=False)
    process = following("logs", "--follow")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=10) == 1
    assert process.stderr.read() == ""


def test_a_daemon_that_comes_back_is_followed_further(following, master, logs, tmp_path):
    logs.first(LINE, ends=False)
    process = following("logs", "--follow")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    task = next(iter(master._server._clients))
    master._loop.call_soon_threadsafe(task.cancel)
    assert process.stderr.readline() == "soniqd is gone: waiting for it\n"
    assert process.stderr.readline() == "soniqd is back\n"
    eventually_sync(lambda: len(logs.params) == 2)
    assert logs.params[1]["after"] == LINE["ts"]
    logs.then(LINE | {"message": "again"})
    assert "hello" in process.stdout.readline()
    assert "again" in process.stdout.readline()


def test_a_daemon_that_does_not_come_back_is_unreachable(following, master, logs):
    logs.first(LINE, ends=False)
    process = following("logs", "--follow")
    assert process.stdout is not None
    process.stdout.readline()
    master.path.unlink()
    for task in list(master._server._clients):
        master._loop.call_soon_threadsafe(task.cancel)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 3
    assert "no such socket" in errors
