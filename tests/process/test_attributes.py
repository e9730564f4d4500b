"""What a child is to the kernel, as the kernel tells it."""

from __future__ import annotations

import os
import pwd
import resource
import signal
from pathlib import Path

import pytest

from soniqd.control import link
from soniqd.model.child import ProcessAttributes

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def limits(pid: int, title: str) -> list[str]:
    """Soft and hard, as /proc/PID/limits has them."""
    [line] = [line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith(title)]
    return line.removeprefix(title).split()[:2]


@pytest.fixture
def fork(greeting_master):
    """Fork a child with these attributes, and return it once it talks."""

    def fork_child(**attributes):
        child = greeting_master.fork(attributes=ProcessAttributes(**attributes))
        child.hear(link.State)
        return child

    return fork_child


def test_without_attributes_a_child_is_what_its_fork_server_is(fork, greeting_master):
    child, server = fork(), greeting_master.process.pid
    for name in ("Cpus_allowed_list", "Uid", "Gid", "Groups", "Umask"):
        assert status(child.pid)[name] == status(server)[name]
    assert Path(f"/proc/{child.pid}/limits").read_text() == Path(f"/proc/{server}/limits").read_text()
    assert os.getpriority(os.PRIO_PROCESS, child.pid) == os.getpriority(os.PRIO_PROCESS, server)


def test_every_thread_of_a_child_runs_on_its_cpus(fork):
    cpu = max(os.sched_getaffinity(0))
    child = fork(cpu_affinity=(cpu,))
    threads = list(Path(f"/proc/{child.pid}/task").iterdir())
    assert len(threads) > 1
    for thread in threads:
        assert status(int(thread.name))["Cpus_allowed_list"] == str(cpu)


def test_every_thread_of_a_child_has_its_priority(fork):
    child = fork(nice=11)
    for thread in Path(f"/proc/{child.pid}/task").iterdir():
        assert os.getpriority(os.PRIO_PROCESS, int(thread.name)) == 11


def test_a_child_has_its_limits_soft_and_hard(fork):
    child = fork(rlimits=(("nofile", 333), ("core", 0), ("fsize", -1)))
    assert limits(child.pid, "Max open files") == ["333", "333"]
    assert limits(child.pid, "Max core file size") == ["0", "0"]
    assert limits(child.pid, "Max file size") == ["unlimited", "unlimited"]


def test_a_child_has_its_mask(fork):
    assert status(fork(umask=0o137).pid)["Umask"] == "0137"


def test_the_next_child_has_nothing_of_the_former_ones_attributes(fork, greeting_master):
    fork(nice=11, umask=0o137, rlimits=(("nofile", 333),))
    child = fork()
    assert status(child.pid)["Umask"] == status(greeting_master.process.pid)["Umask"]
    assert limits(child.pid, "Max open files") == limits(greeting_master.process.pid, "Max open files")
    assert os.getpriority(os.PRIO_PROCESS, child.pid) == os.getpriority(os.PRIO_PROCESS, greeting_master.process.pid)


@AS_ROOT
def test_a_child_of_another_user_has_all_its_ids_and_its_groups_and_no_capability(fork):
    nobody = pwd.getpwnam("nobody")
    found = status(fork(user="nobody").pid)
    assert found["Uid"].split() == [str(nobody.pw_uid)] * 4
    assert found["Gid"].split() == [str(nobody.pw_gid)] * 4
    assert found["Groups"].split() == [str(gid) for gid in os.getgrouplist("nobody", nobody.pw_gid)]
    assert int(found["CapEff"], 16) == int(found["CapPrm"], 16) == 0


@AS_ROOT
def test_a_group_takes_the_place_of_the_users(fork):
    found = status(fork(user="nobody", group="www-data").pid)
    assert found["Uid"].split()[0] == str(pwd.getpwnam("nobody").pw_uid)
    assert found["Gid"].split() == [str(pwd.getpwnam("www-data").pw_gid)] * 4


@AS_ROOT
def test_a_group_alone_leaves_the_user(fork):
    found = status(fork(group="www-data").pid)
    assert found["Uid"].split() == ["0"] * 4
    assert found["Gid"].split() == [str(pwd.getpwnam("www-data").pw_gid)] * 4


@AS_ROOT
def test_a_child_of_another_user_can_still_read_what_proc_has_of_it(fork):
    assert Path(f"/proc/{fork(user='nobody').pid}/smaps_rollup").stat().st_uid == pwd.getpwnam("nobody").pw_uid


@AS_ROOT
def test_limits_and_priority_are_taken_before_the_user_is(fork):
    """An ordinary user could do none of this."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    child = fork(user="nobody", nice=-3, rlimits=(("nofile", hard),))
    assert os.getpriority(os.PRIO_PROCESS, child.pid) == -3


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"cpu_affinity": (8000,)}, "cannot run on CPUs 8000: invalid argument"),
        ({"user": "no-such-user"}, "cannot run as no-such-user: there is no such user"),
        ({"group": "no-such-group"}, "cannot run with group no-such-group: there is no such group"),
        ({"rlimits": (("nofile", 2**60),)}, f"cannot set the limit nofile to {2**60}: "),
    ],
)
def test_what_the_kernel_refuses_is_told_and_ends_the_child_with_78(greeting_master, attributes, reason):
    child = greeting_master.fork(attributes=ProcessAttributes(**attributes))
    assert child.hear(link.Leaving).reason.startswith(reason)
    assert child.wait() == 78
    assert reason in greeting_master.stderr


def test_a_child_that_could_not_take_its_attributes_costs_the_fork_server_nothing(greeting_master):
    greeting_master.fork(attributes=ProcessAttributes(user="no-such-user")).wait()
    child = greeting_master.fork()
    child.hear(link.State)
    child.kill(signal.SIGTERM)
    assert child.wait() == 0
