"""What to call on this host to start soniqd and to read its log, in words for people."""

from __future__ import annotations

from pathlib import Path

START_OF_SERVICE = "systemctl start soniqd"
BOOTED = Path("/run/systemd/system")
"""Is there where systemd runs the host (sd_booted(3)): not in a container."""
_OF_SERVICES = (Path("/run"), Path("/var/run"))


def by_systemd(socket: Path) -> bool:
    """Whether a daemon with this control socket is one of systemd's services, as far as can be told."""
    return any(map(socket.is_relative_to, _OF_SERVICES)) and BOOTED.is_dir()


def start_command(socket: Path, config: Path | None) -> str:
    """Say how to start the daemon that belongs to this socket and configuration."""
    if by_systemd(socket):
        return START_OF_SERVICE
    return f"soniqd -c {config or 'FILE'} (or start its container, or whatever runs it)"
