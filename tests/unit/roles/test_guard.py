import subprocess
import sys

import pytest


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Run a process with a guard."""
    head = "import socket, time\nfrom soniqd.roles.guard import Guard\ng = Guard()\n"
    return subprocess.run(
        [sys.executable, "-c", head + script], capture_output=True, text=True, timeout=20, check=False
    )


STUCK = "def stuck():\n    while True: pass\nstuck()\n"


def test_a_process_that_does_not_leave_is_ended_with_its_stacks_told():
    ended = run("g.end_within(0.1)\n" + STUCK)
    assert ended.returncode == 1
    assert "in stuck" in ended.stderr


def test_a_process_that_leaves_in_time_is_left_alone():
    assert run("g.end_within(30)\nprint('done')").returncode == 0


@pytest.mark.parametrize("deadlines", [(60, 0.1), (0.1, 60)])
def test_the_earliest_deadline_counts(deadlines):
    ended = run("".join(f"g.end_within({deadline})\n" for deadline in deadlines) + STUCK)
    assert ended.returncode == 1


def test_the_end_of_the_link_is_noticed_while_the_main_thread_is_stuck():
    ended = run("a, b = socket.socketpair()\ng.watch_link(a, patience_s=0.1)\na.close()\nb.close()\n" + STUCK)
    assert ended.returncode == 1


def test_data_on_the_link_is_not_its_end():
    ended = run(
        "a, b = socket.socketpair()\ng.watch_link(a, patience_s=0)\nb.send(b'x')\ntime.sleep(0.3)\nprint('alive')"
    )
    assert (ended.returncode, ended.stdout) == (0, "alive\n")


def test_the_stacks_go_to_the_black_box_while_the_master_lives(tmp_path):
    ended = run(
        f"import os\nbox = os.open({str(tmp_path / 'box')!r}, os.O_RDWR | os.O_CREAT)\n"
        f"g = Guard(blackbox=box)\ng.end_within(0.1)\n{STUCK}"
    )
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "in stuck" in (tmp_path / "box").read_text()


@pytest.mark.parametrize("order", ["deadline first", "hangup first"])
def test_the_stacks_go_to_stderr_when_the_master_is_gone(tmp_path, order):
    begin = (
        f"import os, faulthandler\nbox = os.open({str(tmp_path / 'box')!r}, os.O_RDWR | os.O_CREAT)\n"
        "faulthandler.enable(file=box)\ng = Guard(blackbox=box)\na, b = socket.socketpair()\n"
    )
    deadline = "g.end_within(0.5)\n" if order == "deadline first" else ""
    ended = run(f"{begin}{deadline}g.watch_link(a, patience_s=0.5)\na.close()\nb.close()\n{STUCK}")
    assert ended.returncode == 1
    assert "in stuck" in ended.stderr
    assert (tmp_path / "box").read_text() == ""


def test_a_timer_that_cannot_be_had_is_no_reason_not_to_leave():
    ended = run(
        "import faulthandler\ndef refuse(*_, **__):\n    raise RuntimeError('unable to start watchdog thread')\n"
        "faulthandler.dump_traceback_later = refuse\ng.end_within(5)\nprint('goes on')"
    )
    assert (ended.returncode, ended.stdout) == (0, "goes on\n")
