"""Other job queues, each in an environment of its own: ``python -m tests.bench.peers`` installs what is missing.

The folder is ``soniqd-bench`` in the user's cache folder; removing it takes all of it away. A peer runs with what it
is fastest with; a figure of it is one of the version that is named here.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass

from tests.bench.contestants import CACHE, ROOT, Contestant, python_program

_STAMP = "installed"


@dataclass(frozen=True, slots=True)
class Peer:
    """A contestant and the packages that it needs, from PyPI or, for a program of node's, from npm."""

    packages: tuple[str, ...]
    contestant: Contestant

    @property
    def name(self) -> str:
        return self.contestant.name

    @property
    def version(self) -> str:
        return self.packages[0].removeprefix(self.name).lstrip("=@")

    @property
    def is_installed(self) -> bool:
        return (CACHE / self.name / _STAMP).exists() and shutil.which(self.contestant.program[0]) is not None


def _python(name: str, *packages: str, left: str, concurrency: int, jobs: int) -> Peer:
    program = python_program(name, CACHE / name / "bin" / "python")
    return Peer((*packages, "uvloop"), Contestant(name, program, left, concurrency, jobs))


GRAPHILE = Peer(
    packages=("graphile-worker@0.17.3", "pg@8"),
    contestant=Contestant(
        name="graphile-worker",
        program=("node", str(ROOT / "tests" / "bench" / "drivers" / "graphile.js")),
        left="SELECT EXISTS (SELECT 1 FROM graphile_worker._private_jobs)",
        concurrency=10,
        jobs=50_000,
    ),
)
PEERS = (
    GRAPHILE,
    _python(
        "pgqueuer",
        "pgqueuer==1.6.0",
        "asyncpg",
        "psycopg[binary]",
        left="SELECT EXISTS (SELECT 1 FROM pgqueuer)",
        concurrency=100,
        jobs=20_000,
    ),
    _python(
        "chancy",
        "chancy==0.26.0",
        left="SELECT EXISTS (SELECT 1 FROM chancy_jobs WHERE state IN ('pending', 'retrying', 'running'))",
        concurrency=100,
        jobs=5_000,
    ),
    _python(
        "procrastinate",
        "procrastinate==3.10.0",
        left="SELECT EXISTS (SELECT 1 FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))",
        concurrency=50,
        jobs=1_500,
    ),
    _python(
        "soniq",
        "soniq==0.1.0",
        left="SELECT EXISTS (SELECT 1 FROM soniq_jobs WHERE status IN ('queued', 'processing'))",
        concurrency=10,
        jobs=1_500,
    ),
)


def main() -> int:
    """Install what is missing; return 1 if something cannot be had, which the others do not mind."""
    CACHE.mkdir(parents=True, exist_ok=True)
    failed = [peer.name for peer in PEERS if not peer.is_installed and not _install(peer)]
    print(f"peers in {CACHE}: " + (f"without {', '.join(failed)}" if failed else "all installed"))
    return 1 if failed else 0


def _install(peer: Peer) -> bool:
    folder = CACHE / peer.name
    if peer is GRAPHILE:
        folder.mkdir(exist_ok=True)
        done = _run("npm", "install", "--silent", "--no-audit", "--no-fund", *peer.packages)
    else:
        done = _run(sys.executable, "-m", "venv", "--clear", str(folder)) and _run(
            str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *peer.packages
        )
    if done:
        (folder / _STAMP).touch()
    return done


def _run(*command: str) -> bool:
    print("+", *command, flush=True)
    try:
        return subprocess.run(command, cwd=CACHE, check=False).returncode == 0
    except OSError as error:
        print(f"cannot run {command[0]}: {error}", file=sys.stderr)
        return False


if __name__ == "__main__":
    sys.exit(main())
