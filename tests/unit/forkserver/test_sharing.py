"""What a fork copies, and how little of it a prepared process leaves to be copied."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

SHARED_READS = """
import gc, os
from soniqd.forkserver.sharing import prepare_sharing

gc.disable()
WORDS = ["word number %d" % i for i in range(100_000)]
{prepare}
reader, writer = os.pipe()
if os.fork() == 0:
    def private_kib():
        with open("/proc/self/smaps_rollup") as lines:
            return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))
    before = private_kib()
    {use}
    os.write(writer, str(private_kib() - before).encode())
    os._exit(0)
os.wait()
print(os.read(reader, 100).decode())
"""


def copied_kib(*, prepare: str, use: str) -> int:
    """Run a program that forks, and return what its child has copied or added."""
    program = textwrap.dedent(SHARED_READS).format(prepare=prepare, use=use)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return int(result.stdout)


@pytest.mark.skipif(not (3, 12) <= sys.version_info < (3, 14), reason="no object is made immortal there")
def test_reading_what_was_there_copies_nothing() -> None:
    use = "kept = [word for word in WORDS[::100]]"
    assert copied_kib(prepare="gc.freeze()", use=use) > 1000
    assert copied_kib(prepare="prepare_sharing()", use=use) < 300


def test_new_objects_lie_next_to_each_other() -> None:
    gaps = "gaps = [bytes(31) for _ in range(200_000)]; del gaps[::60]; "
    use = "new = [bytes(31) for _ in range(3_000)]"
    assert copied_kib(prepare=f"{gaps} gc.freeze()", use=use) > 2 * copied_kib(
        prepare=f"{gaps} prepare_sharing()", use=use
    )


def test_what_is_alive_goes_on_as_before() -> None:
    program = """
        import gc, weakref
        from soniqd.forkserver.sharing import prepare_sharing

        class Thing:
            def __del__(self): print("gone")

        thing, names = Thing(), {"a": "b"}
        prepare_sharing()
        assert gc.get_freeze_count() > 1000
        names["a"] += "c"
        assert names == {"a": "bc"}
        thing = None
        print("end")
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (result.stdout, result.stderr, result.returncode) == ("gone\nend\n", "", 0)
