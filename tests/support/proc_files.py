"""What /proc tells about one process: its memory, its descriptors, its title (proc(5))."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An open descriptor; ``flags`` are those of open(2)."""

    target: str
    flags: int


def descriptors(pid: int) -> list[Descriptor]:
    """Every open descriptor of a process."""
    folder = Path("/proc") / str(pid)
    return [
        Descriptor(str(entry.readlink()), int(_fields(folder / "fdinfo" / entry.name)["flags"], 8))
        for entry in (folder / "fd").iterdir()
    ]


def sockets(pid: int) -> list[Descriptor]:
    """The sockets of a process."""
    return [descriptor for descriptor in descriptors(pid) if descriptor.target.startswith("socket:")]


def private_mib(pid: int) -> float:
    """Memory that no other process shares, in MiB."""
    fields = _fields(Path(f"/proc/{pid}/smaps_rollup"))
    return sum(int(fields[name].split()[0]) for name in ("Private_Dirty", "Private_Clean")) / 1024


def title(pid: int) -> str:
    """The command line, as ps shows it."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


def _fields(path: Path) -> dict[str, str]:
    pairs = (line.partition(":") for line in path.read_text().splitlines())
    return {name: value.strip() for name, _, value in pairs if value}
