"""The repository itself: its layout, and the scripts that a fresh machine meets first."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from soniqd.version import __version__

ROOT = Path(__file__).parents[2]
TOP_LEVEL = {
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "etc",
    "packaging",
    "pyproject.toml",
    "soniqd",
    "systemd",
    "tests",
}


def tracked_files() -> list[str]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a working copy of git")
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_top_level_holds_what_the_layout_says() -> None:
    names = {name.partition("/")[0] for name in tracked_files()}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL


@pytest.mark.parametrize("script", [".ci/run", ".ci/find-python", ".ci/install-postgres"])
def test_scripts_are_executable(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)


def test_the_changelog_has_this_version() -> None:
    headings = re.findall(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert {__version__, "Unreleased"} & set(headings)


def test_every_target_of_the_makefile_is_explained_by_make_help() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^make (\w+)", listed, re.MULTILINE)) == targets


def test_the_oldest_python_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == ">=3.11"
    assert project["tool"]["ruff"]["target-version"] == "py311"
    assert "(3, 11)" in (ROOT / ".ci/find-python").read_text()


class FakeMachine:
    """A PATH with nothing on it but what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder

    def add_python(self, name: str, *, works: bool = True, complete: bool = True) -> None:
        """``works``: false for a shim that only complains. ``complete``: whether it can make environments."""
        answer = f"""
            case "$2" in
                *version_info*'<'*) exit {0 if works else 127} ;;
                *ensurepip*) exit {0 if complete else 1} ;;
                *executable*) echo /fake/{name} ;;
                *) echo {name.removeprefix("python")} ;;
            esac
        """
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{answer}")
        path.chmod(0o755)

    def find_python(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", str(ROOT / ".ci/find-python")],
            env={"PATH": str(self.bin)},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    for program in ("cat", "id"):
        (tmp_path / program).symlink_to(shutil.which(program) or f"/bin/{program}")
    return FakeMachine(tmp_path)


def test_the_newest_python_is_taken(machine: FakeMachine) -> None:
    for name in ("python3.11", "python3.13", "python3"):
        machine.add_python(name)
    assert machine.find_python().stdout == "/fake/python3.13\n"


def test_a_shim_that_does_not_run_is_passed_over(machine: FakeMachine) -> None:
    machine.add_python("python3.13", works=False)
    machine.add_python("python3.11")
    assert machine.find_python().stdout == "/fake/python3.11\n"


def test_an_older_python_that_is_complete_is_better_than_a_newer_one_that_is_not(machine: FakeMachine) -> None:
    machine.add_python("python3.13", complete=False)
    machine.add_python("python3.11")
    assert machine.find_python().stdout == "/fake/python3.11\n"


def test_without_ensurepip_it_says_which_package_to_install(machine: FakeMachine) -> None:
    machine.add_python("python3.12", complete=False)
    done = machine.find_python()
    assert done.returncode == 1
    assert "apt-get install python3.12-venv" in done.stderr


def test_without_any_python_it_says_what_to_install(machine: FakeMachine) -> None:
    done = machine.find_python()
    assert done.returncode == 1
    assert "cannot find a Python of version 3.11 or newer" in done.stderr


def test_the_real_one_is_found_here() -> None:
    environ = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run([str(ROOT / ".ci/find-python")], env=environ, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).samefile(sys.executable)
