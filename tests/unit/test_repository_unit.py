"""The systemd unit: what it promises fits the daemon's settings, and systemd understands it."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from soniqd.settings.daemon import DaemonSettings

UNIT = Path(__file__).parents[2] / "systemd/soniqd.service"


@pytest.fixture
def service() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes=("#",), delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNIT)
    return parser["Service"]


def test_systemd_waits_longer_than_a_drain(service: configparser.SectionProxy) -> None:
    stop_s = float(service["TimeoutStopSec"].removesuffix("s"))
    assert stop_s >= DaemonSettings().soniqd.drain_timeout + 10


def test_the_runtime_directory_is_the_default_sockets(service: configparser.SectionProxy) -> None:
    assert DaemonSettings().soniqd.socket.parent == Path("/run") / service["RuntimeDirectory"]


def test_an_unusable_configuration_is_not_tried_again(service: configparser.SectionProxy) -> None:
    assert service["RestartPreventExitStatus"] == "78"


def test_only_the_master_gets_the_signal_to_stop(service: configparser.SectionProxy) -> None:
    assert service["KillMode"] == "mixed"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """ExecStart has to exist for the check, so a copy names a program that does, and a user that does."""
    unit = tmp_path / UNIT.name
    text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text())
    unit.write_text(text.replace("User=soniq", "User=root").replace("Group=soniq", "Group=root"))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
