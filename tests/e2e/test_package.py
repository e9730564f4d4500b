"""The Debian package, built for real and installed into a throw-away copy of this system."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BIN = Path(sys.executable).parent

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not all((BIN / tool).exists() for tool in ("nfpm", "uv")), reason="run make .venv/.packager first"
    ),
    pytest.mark.skipif(any(shutil.which(tool) is None for tool in ("dpkg", "strip", "git")), reason="not a Debian"),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a working copy of git"),
]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built from a clone of the last commit."""
    clone = tmp_path_factory.mktemp("clone") / "soniqd"
    subprocess.run(["git", "-c", "safe.directory=*", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    subprocess.run([sys.executable, "packaging/build.py"], cwd=clone, check=True)
    [deb] = (clone / "dist").glob("*.deb")
    return deb


def test_the_package_says_what_it_needs(package: Path) -> None:
    shown = subprocess.run(["dpkg-deb", "--field", str(package)], capture_output=True, text=True, check=True).stdout
    assert "Package: soniqd\n" in shown
    assert "Depends: adduser, tzdata, python3 (>= 3.11), python3 (<< 3.15)\n" in shown


def test_it_installs_runs_a_job_and_goes(package: Path, tmp_path: Path) -> None:
    isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    if os.geteuid() != 0 or subprocess.run([*isolated, "true"], check=False, capture_output=True).returncode:
        pytest.skip("only root can install packages, and only where it may make namespaces")
    overlay = ["sh", str(HERE / "package_overlay.sh"), str(tmp_path), str(package), str(HERE / "package_try.sh")]
    done = subprocess.run([*isolated, *overlay], capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout.endswith("everything worked\n"), done.stdout + done.stderr
