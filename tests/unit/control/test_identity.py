import os
import subprocess
import sys
from dataclasses import replace

import pytest

from soniqd.control import identity
from soniqd.control.identity import current_identity, is_alive, machine_id


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def identity_of(pid: int):
    ticks = int(identity._read_stat(pid)[19])
    return replace(current_identity(), pid=pid, start_ticks=ticks)


def test_this_process_names_itself_and_is_alive():
    me = current_identity()
    assert (me.pid, me == current_identity()) == (os.getpid(), True)
    assert me.start_ticks > 0
    assert me.boot_id
    assert me.pid_namespace > 0
    assert is_alive(me)


def test_a_reused_pid_is_not_the_process_it_was():
    assert not is_alive(replace(current_identity(), start_ticks=1))


def test_a_killed_process_is_dead_even_before_it_is_reaped(sleeper):
    process = identity_of(sleeper.pid)
    assert is_alive(process)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(process)
    sleeper.wait()
    assert not is_alive(process)


def test_pids_that_no_process_can_have_are_dead():
    assert not is_alive(replace(current_identity(), pid=0))
    assert not is_alive(replace(current_identity(), pid=-1))
    assert not is_alive(replace(current_identity(), pid=2**40))


def test_a_process_that_proc_hides_counts_as_alive(monkeypatch, sleeper):
    process = identity_of(sleeper.pid)
    monkeypatch.setattr(identity, "_read_stat", lambda _pid: [])
    assert is_alive(process)


def test_a_host_without_a_machine_id_is_named_by_its_host_name(monkeypatch):
    monkeypatch.setattr(identity, "_read_text", lambda _path: "")
    monkeypatch.setattr("socket.gethostname", lambda: "box")
    assert machine_id() == "box"
