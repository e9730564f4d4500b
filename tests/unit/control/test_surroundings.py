"""What to call on this host: systemd's commands only where systemd runs the daemon."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from soniqd.control import surroundings
from soniqd.control.client import ControlClient
from soniqd.errors import DaemonUnreachableError

SERVICE = Path("/run/soniq-of-nobody/soniqd.sock")


@pytest.fixture
def booted(tmp_path, monkeypatch):
    monkeypatch.setattr(surroundings, "BOOTED", tmp_path)


@pytest.fixture
def without_systemd(tmp_path, monkeypatch):
    monkeypatch.setattr(surroundings, "BOOTED", tmp_path / "absent")


def complaint(path: Path) -> str:
    with pytest.raises(DaemonUnreachableError) as caught:
        ControlClient(path).call("status")
    return str(caught.value)


def test_a_service_is_looked_at_and_started_by_systemd(booted):
    assert "is it running (systemctl status soniqd)? " in complaint(SERVICE)
    assert surroundings.start_command(SERVICE, Path("/etc/soniq.toml")) == "systemctl start soniqd"


def test_in_a_container_systemd_is_not_mentioned(without_systemd):
    assert "systemctl" not in complaint(SERVICE)
    assert surroundings.start_command(SERVICE, Path("/a.toml")).startswith("soniqd -c /a.toml (or start its container")


def test_a_daemon_with_a_socket_of_its_own_is_nobodys_service(booted, tmp_path):
    assert "systemctl" not in complaint(tmp_path / "s.sock")
    assert surroundings.start_command(tmp_path / "s.sock", None).startswith("soniqd -c FILE")


def test_a_daemon_that_has_died_is_started_as_it_was(booted, tmp_path):
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    assert "(it goes to the standard error of soniqd), soniqd -c FILE starts it" in complaint(path)
