"""What [[workers]] say about processes: values, findings, and what this host allows of them."""

from __future__ import annotations

import dataclasses
import grp
import json
import os
import pwd
import resource

import pytest

from soniqd.errors import ConfigurationError
from soniqd.settings import dump_settings, load_daemon_settings, restore_settings
from soniqd.settings.host import Host, this_host

SMALL = Host(
    user="soniq",
    group="soniq",
    may_change_user=False,
    least_nice=0,
    cpus=frozenset({0, 1, 2, 5}),
    most={"nofile": 4096, "core": 0},
    has_user=lambda name: name in ("soniq", "www-data"),
    has_group=lambda name: name in ("soniq", "www-data"),
)
ROOT = dataclasses.replace(SMALL, user="root", group="root", may_change_user=True, least_nice=-20, most={})


@pytest.fixture
def load(tmp_path):
    def load_group(text, host=None):
        path = tmp_path / "soniq.toml"
        path.write_text(f"[[workers]]\n{text}\n")
        return load_daemon_settings(path, environ={"WHERE": "here"}, host=host)

    return load_group


@pytest.fixture
def problems(load, tmp_path):
    def load_bad_group(text, host=None):
        with pytest.raises(ConfigurationError) as caught:
            load(text, host)
        return [problem.removeprefix(f"{tmp_path / 'soniq.toml'}: workers[0].") for problem in caught.value.problems]

    return load_bad_group


EVERYTHING = """
    block_warning = "250ms"
    stop_signal_timeout = "10s"
    max_jobs = 1000
    max_age = "1h"
    max_memory = "512MB"
    env = {TZ = "UTC", PLACE = "${WHERE}"}
    nice = 5
    cpu_affinity = "0-1"
    rlimits = {nofile = 1024, as = "2GB", core = "unlimited"}
    user = "www-data"
    group = "www-data"
    umask = "0027"
"""


def test_every_key_of_a_group(load):
    [group] = load(EVERYTHING, ROOT).workers
    assert (group.block_warning, group.stop_signal_timeout) == (0.25, 10)
    assert (group.max_jobs, group.max_age, group.max_memory) == (1000, 3600, 512_000_000)
    assert group.env == {"TZ": "UTC", "PLACE": "here"}
    assert (group.nice, group.cpu_affinity, group.umask) == (5, (0, 1), "0027")
    assert group.rlimits == {"nofile": 1024, "as": 2_000_000_000, "core": -1}
    assert (group.user, group.group) == ("www-data", "www-data")


def test_a_group_comes_back_from_its_dump(load):
    settings = load(EVERYTHING)
    assert restore_settings(json.loads(json.dumps(dump_settings(settings)))) == settings


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rlimits = {nofiles = 1}", 'rlimits.nofiles: unknown resource limit; did you mean "nofile"?'),
        ("rlimits = 5", "rlimits: expected a table, got 5"),
        (
            'rlimits = {nofile = "x"}',
            'rlimits.nofile: expected a number, a size such as "2GB" or "unlimited", got "x"',
        ),
        ("env = {PORT = 80}", "env.PORT: expected a string, got 80"),
        ('env = {"A=B" = ""}', 'env.A=B: expected the name of a variable, without "=", got "A=B"'),
        ('env = {A = "\\u0000"}', "env.A: expected a value without a NUL character"),
        (f'env = {{A = "{"x" * 70_000}"}}', "env: expected 65536 bytes of variables or less in all groups together"),
        ("nice = 20", "nice: expected 19 or less, got 20"),
        ("max_jobs = -1", "max_jobs: expected 0 or more, got -1"),
        (
            "max_memory = '5 apples'",
            'max_memory: expected a size such as "512MB", "1GiB" or a number of bytes, got "5 apples"',
        ),
        ("stop_signal_timeout = 0.5", "stop_signal_timeout: expected 1 or more, got 0.5"),
        ("cpu_affinity = 'all'", 'cpu_affinity: expected CPUs such as "0-3,6" or [0, 1, 2, 3, 6], got "all"'),
        ("umask = 27", 'umask: expected the octal digits of a umask as a string, such as "0027", got 27'),
    ],
)
def test_a_wrong_value_is_told(problems, text, problem):
    assert problems(text) == [problem]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("user = 'nobody-here'", 'user: expected a user of this host, got "nobody-here"'),
        ("user = 'www-data'", 'user: only a soniqd that runs as root can run jobs as "www-data"'),
        ("group = 'nobody-here'", 'group: expected a group of this host, got "nobody-here"'),
        ("group = 'www-data'", 'group: only a soniqd that runs as root can run jobs as "www-data"'),
        ("nice = -1", "nice: expected 0 or more, got -1: only root may go below its own priority"),
        ("cpu_affinity = '0-5'", "cpu_affinity: expected CPUs that soniqd may use (0-2,5), got 3, 4"),
        (
            "rlimits = {nofile = 4097}",
            "rlimits.nofile: expected 4096 or less, which is soniqd's own hard limit, got 4097",
        ),
        (
            "rlimits = {core = 'unlimited'}",
            'rlimits.core: expected 0 or less, which is soniqd\'s own hard limit, got "unlimited"',
        ),
    ],
)
def test_what_the_host_does_not_allow_is_told_to_the_daemon_only(load, problems, text, problem):
    assert problems(text, SMALL) == [problem]
    assert load(text).workers


def test_problems_of_the_host_are_told_with_all_others(problems):
    found = problems("nice = -1\nprocesses = -1\nuser = 'nobody-here'", SMALL)
    assert [problem.split(":")[0] for problem in found] == ["processes", "user", "nice"]


def test_its_own_user_needs_no_root(load):
    assert load("user = 'soniq'\ngroup = 'soniq'", SMALL).workers[0].user == "soniq"


def test_root_may_do_all_of_it(load):
    text = "user = 'www-data'\ngroup = 'www-data'\nnice = -20\nrlimits = {core = 'unlimited', nofile = 99999}"
    assert load(text, ROOT).workers[0].nice == -20


def test_this_host_is_what_the_kernel_says():
    host = this_host()
    assert host.cpus == os.sched_getaffinity(0)
    assert (host.user, host.group) == (pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name)
    assert host.has_user(host.user)
    assert host.has_group(host.group)
    assert not host.has_user("no such user")
    assert host.least_nice <= os.getpriority(os.PRIO_PROCESS, 0)
    assert host.most["nofile"] >= resource.getrlimit(resource.RLIMIT_NOFILE)[0]
