"""The account of a load of jobs: what it must not excuse."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.load import Rerun, find_reruns, read_runs

FIRST, SECOND = 100, 200


def notes(path: Path, *lines: tuple[str, int, float]) -> Path:
    """Write what runs of one job noted: (what, pid, seconds); each process is a worker of its own."""
    path.write_text("".join(json.dumps([what, "job", f"w{pid}", pid, at_s]) + "\n" for what, pid, at_s in lines))
    return path


def rerun(path: Path, *lines: tuple[str, int, float], killed: float | None = None, left: bool = False) -> Rerun:
    deaths = {} if killed is None else {FIRST: [(killed, killed + 0.001)]}
    behind = {("job", FIRST)} if left else set()
    [found] = find_reruns(read_runs(notes(path, *lines)), deaths, behind)
    return found


def test_a_job_that_ran_once_is_no_rerun(tmp_path):
    assert find_reruns(read_runs(notes(tmp_path / "runs", ("began", FIRST, 1.0), ("done", FIRST, 2.0))), {}) == []


def test_a_kill_during_the_first_run_explains_the_second(tmp_path):
    found = rerun(tmp_path / "runs", ("began", FIRST, 1.0), ("began", SECOND, 3.0), killed=2.0)
    assert (found.cause, found.overlaps) == ("killed", False)


def test_a_kill_before_the_first_run_or_after_the_second_began_explains_nothing(tmp_path):
    lines = ("began", FIRST, 1.0), ("began", SECOND, 3.0)
    assert rerun(tmp_path / "runs", *lines, killed=0.5).cause is None
    assert rerun(tmp_path / "runs", *lines, killed=3.5).cause is None


def test_a_kill_long_after_the_first_run_was_done_explains_nothing(tmp_path):
    lines = ("began", FIRST, 1.0), ("done", FIRST, 2.0), ("began", SECOND, 30.0)
    assert rerun(tmp_path / "runs", *lines, killed=2.1).cause == "killed"
    assert rerun(tmp_path / "runs", *lines, killed=20.0).cause is None


def test_a_second_run_without_any_kill_is_not_explained(tmp_path):
    assert rerun(tmp_path / "runs", ("began", FIRST, 1.0), ("began", SECOND, 3.0)).cause is None


def test_a_run_that_was_cut_short_or_left_behind_is_told_apart(tmp_path):
    lines = ("began", FIRST, 1.0), ("cut", FIRST, 2.0), ("began", SECOND, 3.0)
    assert rerun(tmp_path / "runs", *lines).cause == "cut"
    assert rerun(tmp_path / "runs", ("began", FIRST, 1.0), ("began", SECOND, 3.0), left=True).cause == "cut"


def test_a_first_run_that_goes_on_while_the_second_has_begun_overlaps(tmp_path):
    found = rerun(tmp_path / "runs", ("began", FIRST, 1.0), ("began", SECOND, 3.0), ("goes on", FIRST, 3.1), killed=2.0)
    assert found.overlaps
