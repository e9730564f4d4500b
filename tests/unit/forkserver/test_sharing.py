"""What a fork copies, and how little of it a prepared process leaves to be copied."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from soniqd.forkserver import sharing

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


@pytest.mark.skipif(not (3, 12) <= sys.version_info < (3, 15), reason="no object is made immortal there")
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


def run(program: str, **environ: str) -> tuple[str, str, int]:
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environ},
    )
    return result.stdout, result.stderr, result.returncode


def test_no_object_is_asked_what_it_is() -> None:
    program = """
        import weakref
        from soniqd.forkserver.sharing import prepare_sharing

        class Lazy:
            @property
            def __class__(self): raise RuntimeError("not configured")

        class Comparable(type):
            def __eq__(self, other): return NotImplemented

        class Thing(metaclass=Comparable): pass
        class Subject: pass

        kept = [Lazy(), Thing(), weakref.proxy(Subject())]
        prepare_sharing()
        print("end")
    """
    assert run(program) == ("end\n", "", 0)


def test_gaps_are_filled_to_an_end_where_malloc_maps_what_it_gives_out() -> None:
    program = """
        import gc, resource
        from soniqd.forkserver.sharing import prepare_sharing

        gaps = [bytes(3000) for _ in range(20_000)]
        del gaps[::2]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        prepare_sharing()
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024 < 64)
    """
    assert run(program, MALLOC_MMAP_THRESHOLD_="4000", MALLOC_TOP_PAD_="0") == ("True\n", "", 0)


@pytest.mark.parametrize(("flags", "has"), [("", True), ("t", False)])
def test_objects_of_a_build_without_the_global_lock_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, flags: str, has: bool
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 13, 0, "final", 0))
    monkeypatch.setattr(sys, "abiflags", flags)
    assert sharing._has_immortals() is has


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
    assert run(program) == ("gone\nend\n", "", 0)
