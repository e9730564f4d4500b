import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from soniqd.control import fork as wire
from soniqd.control import link
from soniqd.model.child import ChildSpec
from soniqd.settings import dump_settings
from soniqd.version import __version__
from tests.process.conftest import GREETER
from tests.support.fork_master import StubChild
from tests.support.proc_files import private_mib, sockets, title
from tests.support.processes import find_process
from tests.support.waiting import eventually_sync


def packet(master, **changes) -> bytes:
    boot = {"type": "boot", "generation": 1, "settings": dump_settings(master.settings)}
    return json.dumps({**boot, "version": __version__, "protocol": wire.PROTOCOL, **changes}).encode()


def test_boot_tells_what_was_imported(masters, write_module, settings_for):
    write_module("greeter", GREETER + "@app.periodic(every=60, name='tidy')\ndef tidy(): ...\n")
    booted = masters(settings_for("greeter")).booted()
    assert set(booted.tasks) == {"greet", "tidy"}
    assert booted.schedules == ("tidy",)
    assert booted.threads == ()
    assert booted.version == __version__
    assert sys.executable in booted.python


def test_what_modules_print_disturbs_nothing_and_is_printed_once(masters, write_module, settings_for):
    write_module("greeter", "import sys\nprint('hello from import')\nsys.stdout.write('no newline')\n" + GREETER)
    master = masters(settings_for("greeter"))
    master.booted()
    for child in (master.fork(), master.fork(index=2)):
        child.kill(signal.SIGTERM)
        child.wait()
    assert master.stdout == "hello from import\nno newline"


def test_a_module_that_cannot_be_imported_fails_the_boot_with_exit_code_78(masters, write_module, settings_for):
    write_module("broken", "\nraise RuntimeError('out of order, password=hunter2')\n")
    master = masters(settings_for("broken"))
    failed = master.boot()
    assert isinstance(failed, wire.BootFailed)
    assert failed.problems[0].startswith("cannot import broken: RuntimeError: out of order")
    assert "broken.py:2" in failed.problems[0]
    assert "Traceback" in failed.traceback
    assert "hunter2" not in repr(failed)
    assert master.process.wait(10) == 78


@pytest.mark.parametrize("fault", ["import sys; sys.exit(0)", "raise KeyboardInterrupt", "def f(:", "x = 1"])
def test_whatever_a_module_does_the_boot_fails_with_a_message(masters, write_module, settings_for, fault):
    write_module("faulty", fault)
    failed = masters(settings_for("faulty")).boot()
    assert isinstance(failed, wire.BootFailed)
    assert failed.problems


def test_an_enormous_error_still_fits_a_packet(masters, write_module, settings_for):
    write_module("verbose", "raise RuntimeError('\\N{SNOWMAN}' * 500_000)\n")
    failed = masters(settings_for("verbose")).boot()
    assert isinstance(failed, wire.BootFailed)


def test_an_application_with_thousands_of_tasks_boots(masters, write_module, settings_for):
    tasks = "for n in range(5000):\n    app.job(name=f'task_number_{n:05}_of_many_more')(lambda: None)\n"
    write_module("crowd", "from soniqd import Soniq\napp = Soniq()\n" + tasks)
    booted = masters(settings_for("crowd")).booted()
    assert booted.tasks[0] == "task_number_00000_of_many_more"
    assert booted.tasks[-1] == "..."


@pytest.mark.parametrize("other", [{"version": "0.0.9"}, {"protocol": wire.PROTOCOL + 1, "novelty": True}])
def test_another_release_is_told_what_to_install_where(masters, settings_for, other):
    master = masters(settings_for("greeter"))
    master.send(packet(master, **other))
    failed = master.receive()
    assert isinstance(failed, wire.BootFailed)
    assert f"{sys.executable} -m pip install soniqd==" in failed.problems[0]


def test_rubbish_instead_of_boot_is_refused(masters, settings_for):
    master = masters(settings_for("greeter"))
    master.send(b"hello")
    assert isinstance(master.receive(), wire.BootFailed)


def test_settings_of_no_release_are_refused(masters, settings_for):
    master = masters(settings_for("greeter"))
    master.send(packet(master, settings={"database": {"speed": "warp"}}))
    failed = master.receive()
    assert isinstance(failed, wire.BootFailed)
    assert "speed" in failed.problems[0]


def test_an_interpreter_without_soniqds_dependencies_says_what_to_install(masters, settings_for, tmp_path):
    (tmp_path / "uvloop.py").write_text("raise ImportError(\"No module named 'uvloop'\")")
    failed = masters(settings_for("greeter"), environ={"PYTHONPATH": str(tmp_path)}).boot()
    assert isinstance(failed, wire.BootFailed)
    assert failed.problems[0].startswith(f"cannot run soniqd in {sys.executable}: No module named 'uvloop'; install it")


def test_what_jobs_print_is_seen_while_the_process_lives(masters, write_module, settings_for):
    write_module("greeter", "print('importing')\n" + GREETER)
    master = masters(settings_for("greeter"))
    master.booted()
    assert master.stdout == "importing\n"


def test_descriptors_left_open_by_a_module_are_logged(masters, write_module, settings_for):
    write_module("greeter", "import socket\nleft = socket.socket()\n" + GREETER)
    master = masters(settings_for("greeter"))
    master.booted()
    eventually_sync(lambda: "(socket:[" in master.stderr)


def test_a_clean_module_is_not_accused_of_leaving_descriptors(greeting_master):
    assert "descriptors" not in greeting_master.stderr


def test_a_child_is_adopted_has_its_own_group_and_only_its_own_descriptors(greeting_master):
    child = greeting_master.fork()
    child.hear(link.State)
    assert os.getpgid(child.pid) == child.pid
    process = find_process(child.pid)
    assert process is not None
    assert process.parent == os.getpid()
    assert not inodes(child.pid) & inodes(greeting_master.process.pid)


def inodes(pid: int) -> set[str]:
    return {sock.target for sock in sockets(pid)}


def test_children_of_one_generation_do_not_share_random_numbers(masters, write_module, settings_for):
    write_module("greeter", "import random, os, sys\nrandom.seed(1)\n" + GREETER + RANDOM_AT_FORK)
    master = masters(settings_for("greeter"))
    master.booted()
    for index in (1, 2):
        master.fork(index=index)
    eventually_sync(lambda: master.stderr.count("dice=") >= 4)  # two intermediate processes, two children
    dice = [line.partition("dice=")[2] for line in master.stderr.splitlines() if "dice=" in line]
    assert len(set(dice)) == len(dice)


RANDOM_AT_FORK = """
os.register_at_fork(after_in_child=lambda: print(f"dice={random.random()}", file=sys.stderr, flush=True))
"""


def test_a_request_without_its_descriptors_fails_and_the_next_one_succeeds(greeting_master):
    child = StubChild(greeting_master.fork().spec)
    greeting_master.send(wire.encode(wire.Fork(7, child.spec)))
    answer = greeting_master.receive()
    assert isinstance(answer, wire.ForkFailed)
    assert (answer.request, "0 descriptors" in answer.error) == (7, True)
    child.far_ends_sent()
    child.end()
    assert greeting_master.fork(index=2).pid


def test_an_unreadable_request_is_logged_and_the_next_one_succeeds(greeting_master):
    greeting_master.send(b"fork, please")
    assert greeting_master.fork().pid
    assert "cannot serve the master's request" in greeting_master.stderr


def test_a_fork_that_the_kernel_refuses_is_told_with_its_reason(masters, write_module, settings_for):
    write_module(
        "greeter",
        GREETER + f"import os\ndef fork():\n    raise OSError({errno.EAGAIN}, 'no more processes')\nos.fork = fork\n",
    )
    master = masters(settings_for("greeter"))
    master.booted()
    assert refusal_of(master) == "no more processes"


def refusal_of(master) -> str:
    """Ask for a child that is refused."""
    child = StubChild(ChildSpec("worker", "default", 1, generation=1, worker_id="w"))
    master.request(child)
    child.end()
    answer = master.receive()
    assert isinstance(answer, wire.ForkFailed)
    return answer.error


def test_the_fork_server_leaves_with_its_master(greeting_master):
    greeting_master.sock.close()
    assert greeting_master.process.wait(5) == 0


def test_it_leaves_with_its_master_also_in_the_middle_of_an_import(masters, write_module, settings_for, tmp_path):
    write_module("slow", "import pathlib, time\npathlib.Path('importing').touch()\nwhile True: time.sleep(60)\n")
    master = masters(settings_for("slow"))
    master.send(packet(master))
    eventually_sync((tmp_path / "importing").exists)
    master.sock.close()
    assert master.process.wait(5) == 0


@pytest.mark.parametrize("ending", ["", "raise RuntimeError('out of order')\n"], ids=["retired", "boot failed"])
def test_it_leaves_whatever_threads_its_modules_have_started(masters, write_module, settings_for, ending):
    write_module(
        "greeter", f"import threading\nthreading.Thread(target=threading.Event().wait).start()\n{GREETER}{ending}"
    )
    master = masters(settings_for("greeter"))
    master.boot()
    master.sock.close()
    master.process.wait(15)


def test_a_module_that_ignores_its_children_can_be_forked_from(masters, write_module, settings_for):
    write_module("greeter", "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n" + GREETER)
    master = masters(settings_for("greeter"))
    master.booted()
    master.fork().hear(link.Ready)


def test_terminal_signals_do_not_end_it_and_term_does(greeting_master):
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        greeting_master.process.send_signal(signum)
    assert greeting_master.fork().pid
    greeting_master.process.terminate()
    assert greeting_master.process.wait(5) == -signal.SIGTERM


def test_its_title_names_its_generation(greeting_master):
    assert title(greeting_master.process.pid) == "soniqd: fork server gen 1"


def test_children_survive_the_end_of_their_fork_server(greeting_master):
    child = greeting_master.fork()
    child.hear(link.Ready)
    greeting_master.sock.close()
    greeting_master.process.wait(5)
    child.tell(link.Drain(5.0))
    assert child.wait() == 0


THREADED = """
import threading
threading.Thread(target=threading.Event().wait, name="collector", daemon=True).start()
"""


def test_threads_that_a_module_starts_are_named_and_forking_is_refused(masters, write_module, settings_for):
    write_module("greeter", THREADED + GREETER)
    master = masters(settings_for("greeter"))
    assert master.booted().threads == ("collector",)
    assert refusal_of(master) == "it runs threads: collector"


def test_an_interpreter_with_threads_becomes_the_child_itself(masters, write_module, settings_for):
    write_module("greeter", THREADED + GREETER)
    master = masters(settings_for("greeter"), exec_child=True)
    master.booted()
    child = master.fork()
    assert child.pid == master.process.pid
    assert master.receive() is None  # the conversation is over
    child.hear(link.Ready, pid=child.pid)
    child.tell(link.Drain(5.0))
    assert child.wait() == 0
    master.process.returncode = 0


def test_it_refuses_a_command_line_without_its_socket():
    result = subprocess.run([sys.executable, "-m", "soniqd.forkserver"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "--fd" in result.stderr


def test_heavy_imports_make_forks_neither_slow_nor_big(masters, write_module, settings_for):
    write_module("greeter", "ballast = [str(n) * 10 for n in range(2_500_000)]\n" + GREETER)
    master = masters(settings_for("greeter"))
    master.booted()
    took_s = []
    for index in range(1, 4):
        before = time.perf_counter()
        child = master.fork(index=index)
        child.hear(link.Ready)
        took_s.append(time.perf_counter() - before)
    assert private_mib(child.pid) < 20
    assert min(took_s) < 1.0


def test_no_socket_is_inherited_by_programs_that_a_child_starts(greeting_master):
    child = greeting_master.fork()
    child.hear(link.State)
    assert sockets(child.pid)
    assert all(sock.flags & socket.SOCK_CLOEXEC for sock in sockets(child.pid))
