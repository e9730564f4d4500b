"""Each known defect of Soniq has its tests: what tests/defects.toml says, and that they exist."""

from __future__ import annotations

import configparser
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEFECTS = tomllib.loads((ROOT / "tests/defects.toml").read_text())


def test_every_defect_names_tests_that_are_collected() -> None:
    named = {test for entry in DEFECTS.values() for test in entry["tests"]}
    files = sorted({test.partition("::")[0] for test in named})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    collected = {line.partition("[")[0] for line in done.stdout.splitlines() if "::" in line}
    assert named - collected == set()


def test_every_defect_is_there() -> None:
    assert {int(number) for number in DEFECTS} == {*range(1, 11), 12, 13, 15}
    assert all(entry["defect"] and entry["tests"] for entry in DEFECTS.values())


def test_the_unit_asks_for_no_watchdog_that_nobody_feeds() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(ROOT / "systemd/soniqd.service")
    assert "watchdogsec" not in unit["Service"] or _feeds_the_watchdog()


def _feeds_the_watchdog() -> bool:
    return any("WATCHDOG=1" in path.read_text() for path in (ROOT / "soniqd").rglob("*.py"))
