"""The limit of open files: for the master what it may have, for others what it inherited."""

from __future__ import annotations

import resource
import subprocess
import sys
import textwrap

from soniqd.supervisor.descriptors import give_back_descriptor_limit


def test_the_soft_limit_is_raised_to_the_hard_one_and_the_old_one_told():
    script = """
        import resource
        from soniqd.supervisor.descriptors import raise_descriptor_limit
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (123, hard))
        assert raise_descriptor_limit() == 123
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
        assert raise_descriptor_limit() == hard
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=30)


def test_another_process_gets_a_soft_limit_and_keeps_its_hard_one():
    with subprocess.Popen(["sleep", "60"]) as process:
        hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[1]
        give_back_descriptor_limit(process.pid, 321)
        assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (321, hard)
        process.kill()


def test_a_process_that_has_ended_gets_nothing_and_that_is_no_error():
    process = subprocess.Popen(["true"])
    process.wait()
    give_back_descriptor_limit(process.pid, 321)
