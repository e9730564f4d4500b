import json
import logging
import os
import re
import sys
from typing import Any

import pytest

from soniqd.log.context import job_id_var
from soniqd.log.formats import JournaldFormat, JsonFormat, TextFormat

FORMATS = [TextFormat("default/2"), JournaldFormat("default/2"), JsonFormat("default/2")]
IDS = ["text", "journald", "json"]
every_format = pytest.mark.parametrize("render", FORMATS, ids=IDS)
SECRET_URL = "postgresql://app:hunter2@db/jobs"


def record(message: str = "hello", *, level: int = logging.INFO, name: str = "myapp", **attributes: Any) -> Any:
    made = logging.LogRecord(name, level, "app.py", 12, message, None, None)
    vars(made).update(attributes)
    return made


def event(message: str, *, name: str, level: int = logging.INFO, **fields: Any) -> Any:
    return record(message, level=level, name="soniqd", event=name, fields=fields)


def fail(error: Exception) -> None:
    raise error


def raised(error: Exception) -> Any:
    try:
        fail(error)
    except Exception:
        return sys.exc_info()


def test_text_tells_time_level_slot_and_pid() -> None:
    line = TextFormat("default/2")(event("ready", name="worker_ready", pid=1))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO    default/2\[\d+\] ready\n", line)


def test_text_names_the_logger_of_foreign_lines() -> None:
    assert TextFormat("default/2")(record("hello")).endswith("] myapp: hello\n")


def test_colour_marks_the_level_only() -> None:
    line = TextFormat("m", colour=True)(record(level=logging.ERROR))
    assert "\x1b[31mERROR   \x1b[0m" in line
    assert line.count("\x1b") == 2
    assert "\x1b" not in TextFormat("m")(record(level=logging.ERROR))


@pytest.mark.parametrize(
    ("level", "priority"),
    [(5, 7), (logging.DEBUG, 7), (logging.INFO, 6), (25, 6), (logging.WARNING, 4), (logging.ERROR, 3), (50, 2)],
)
def test_journald_gets_the_priority_and_no_time(level: int, priority: int) -> None:
    assert JournaldFormat("default/2")(record(level=level)) == f"<{priority}>default/2: myapp: hello\n"


def test_journald_marks_each_line_of_a_traceback() -> None:
    lines = JournaldFormat("m")(record(level=logging.ERROR, exc_info=raised(ValueError("a\nb")))).splitlines()
    assert len(lines) > 3
    assert all(line.startswith("<3>") for line in lines)
    assert all(line.startswith("<3>    | ") for line in lines[1:])


def test_json_is_one_object_with_the_events_fields() -> None:
    line = JsonFormat("soniqd")(event("worker ready", name="worker_ready", slot="default/2", pid=7, ready_ms=1.5))
    entry = json.loads(line)
    assert entry.pop("ts").endswith("Z")
    assert entry == {
        "level": "INFO",
        "event": "worker_ready",
        "message": "worker ready",
        "slot": "default/2",
        "pid": 7,
        "ready_ms": 1.5,
    }


def test_json_keeps_what_a_job_passes_as_extra_but_not_under_a_reserved_name() -> None:
    entry = json.loads(JsonFormat(None)(record(order=7, level_="x", event="forged", fields={"message": "m", "ts": 0})))
    assert entry["order"] == 7
    assert entry["message"] == "hello"
    assert entry["message_"] == "m"
    assert entry["ts_"] == 0


def test_whose_line_it_is_is_not_for_the_caller_to_say() -> None:
    token = job_id_var.set("mine")
    try:
        entry = json.loads(JsonFormat("mail/1")(record(job_id="another", slot="web/1", pid=1)))
    finally:
        job_id_var.reset(token)
    assert (entry["job_id"], entry["slot"], entry["pid"]) == ("mine", "mail/1", os.getpid())
    assert (entry["job_id_"], entry["slot_"], entry["pid_"]) == ("another", "web/1", 1)


def test_a_traceback_of_another_process_is_indented_line_by_line() -> None:
    other = record("why:")
    other.__dict__.update(event="boot_traceback", fields={"traceback": "Traceback:\n  File x\x1b\nE: <0>forged\n"})
    lines = TextFormat("soniqd")(other).splitlines()
    assert lines[0].endswith("why:")
    assert lines[1:] == ["    | Traceback:", "    |   File x\\x1b", "    | E: <0>forged"]


def test_json_keeps_a_traceback_in_its_record() -> None:
    line = JsonFormat("m")(record(exc_info=raised(ValueError("bad"))))
    assert line.count("\n") == 1
    trace = json.loads(line)["traceback"]
    assert trace.startswith("Traceback")
    assert trace.endswith("ValueError: bad")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1: {2}}, b"\xff", [float("-inf")]])
def test_json_is_strict_whatever_the_field_holds(value: object) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(JsonFormat("m")(event("x", name="x", value=value)), parse_constant=refuse)


@every_format
@pytest.mark.parametrize(
    "text",
    ["a\n2026-01-01 INFO soniqd forged", "a\rforged", "\x1b[2Jforged", "a\u2028forged", "a\x85forged", "a\x0bforged"],
)
def test_a_message_cannot_forge_a_line(render: Any, text: str) -> None:
    line = render(record(text))
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line


@every_format
def test_an_exceptions_text_cannot_forge_a_line(render: Any) -> None:
    lines = render(record("failed", exc_info=raised(ValueError("x\n<0>forged\rforged\u2028forged")))).splitlines()
    assert not [line for line in lines if line.startswith(("<0>", "forged"))]
    if not isinstance(render, JsonFormat):
        assert all("    | " in line for line in lines[1:])


@every_format
def test_a_line_names_the_job_that_runs_here(render: Any) -> None:
    token = job_id_var.set("0191-job")
    try:
        assert "0191-job" in render(record())
    finally:
        job_id_var.reset(token)
    assert "0191-job" not in render(record())


@every_format
def test_no_password_gets_through(render: Any) -> None:
    failed = raised(OSError(f"cannot connect to {SECRET_URL}"))
    made = record(f"using {SECRET_URL}", exc_info=failed, fields={"url": SECRET_URL, "deep": [{"url": SECRET_URL}]})
    line = render(made)
    assert "hunter2" not in line
    assert "db/jobs" in line
