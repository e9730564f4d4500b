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


def test_a_soniqd_that_stands_still_is_ended_with_all_of_its_processes(service: configparser.SectionProxy) -> None:
    """A core file of an interpreter tells nobody anything."""
    assert float(service["WatchdogSec"].removesuffix("s")) > 0
    assert service["WatchdogSignal"] == "SIGKILL"


def test_a_reload_is_waited_for(service: configparser.SectionProxy) -> None:
    assert service["ExecReload"] == "/usr/bin/soniqctl -c /etc/soniq.toml reload"


def test_systemd_listens_where_the_daemon_would(service: configparser.SectionProxy) -> None:
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes=("#",), delimiters=("=",))
    parser.read(UNIT.with_suffix(".socket"))
    assert parser["Socket"]["ListenStream"] == str(DaemonSettings().soniqd.socket)
    assert service["RuntimeDirectoryPreserve"] == "yes"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """What is executed has to exist for the check, so copies name a program that does, and a user that does."""
    units = []
    for original in (UNIT, UNIT.with_suffix(".socket")):
        text = re.sub(r"(?m)^(Exec\w+)=\S+", r"\1=/bin/true", original.read_text())
        unit = tmp_path / original.name
        unit.write_text(re.sub(r"(?m)^(\w*(?:User|Group))=soniq$", r"\1=root", text))
        units.append(str(unit))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
