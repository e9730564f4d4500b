"""Modules that take too long to be imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from soniqd.control import fork as wire
from tests.process.conftest import GREETER

HANGS = {
    "asleep": "import time\ntime.sleep(600)",
    "a lock that nobody gives back": "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()",
    "a busy loop": "while True: pass",
    "a server that does not answer": "import socket\na, b = socket.socketpair()\na.recv(1)",
    "errors are swallowed": "import time\nwhile True:\n    try: time.sleep(600)\n    except Exception: pass",
}


@pytest.mark.parametrize("source", HANGS.values(), ids=HANGS)
def test_an_import_that_hangs_fails_the_boot_and_says_where(masters, write_module, settings_for, source):
    write_module("slow", source + "\n")
    failed = masters(settings_for("slow", jobs={"import_timeout": 0.5})).boot()
    assert isinstance(failed, wire.BootFailed)
    assert failed.problems[0].startswith("cannot import slow: not done after 0.5 s (")
    assert "slow.py:" in failed.problems[0]
    assert "slow.py" in failed.traceback
    assert failed.transient


def test_the_modules_behind_one_that_hangs_are_not_blamed(masters, write_module, settings_for):
    write_module("slow", "import time\ntime.sleep(600)\n")
    write_module("greeter", GREETER)
    failed = masters(settings_for("slow", "greeter", jobs={"import_timeout": 0.5})).boot()
    assert len(failed.problems) == 1


def test_a_module_that_is_wrong_is_so_every_time(masters, write_module, settings_for):
    write_module("broken", "raise RuntimeError\n")
    assert not masters(settings_for("broken")).boot().transient


def test_no_timer_is_left_behind_for_the_children(masters, write_module, settings_for):
    write_module("greeter", GREETER)
    master = masters(settings_for("greeter", jobs={"import_timeout": 300}))
    master.booted()
    child = master.fork()
    for pid in (master.process.pid, child.pid):
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        [caught] = [int(line.split()[1], 16) for line in status if line.startswith("SigCgt")]
        assert not caught >> (14 - 1) & 1  # SIGALRM
