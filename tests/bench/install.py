"""Set the peers up in a folder of their own, one environment each: ``python -m tests.bench.install``.

The folder is ``soniqd-bench`` in the user's cache folder; removing it takes all of it away.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.bench.contestants import CACHE

PYTHON_PEERS = {
    "pgqueuer": ("pgqueuer==1.6.0", "asyncpg", "psycopg[binary]", "uvloop"),
    "procrastinate": ("procrastinate==3.10.0", "uvloop"),
    "chancy": ("chancy==0.26.0", "uvloop"),
    "soniq": ("soniq==0.1.0", "uvloop"),
}
NODE_PEERS = ("graphile-worker@0.17.3", "pg@8")
_STAMP = ".installed"


def python_of(peer: str) -> Path:
    """Return the interpreter of a peer's environment, which need not be there."""
    return CACHE / peer / "bin" / "python"


def has_python(peer: str) -> bool:
    return (CACHE / peer / _STAMP).exists()


def has_node() -> bool:
    return shutil.which("node") is not None and (CACHE / "node_modules" / "graphile-worker").is_dir()


def main() -> int:
    """Install what is missing; return 1 if something cannot be had, which the others do not mind."""
    CACHE.mkdir(parents=True, exist_ok=True)
    failed = [peer for peer, packages in PYTHON_PEERS.items() if not has_python(peer) and not _install(peer, packages)]
    if not has_node() and not _run("npm", "install", "--silent", "--no-audit", "--no-fund", *NODE_PEERS):
        failed.append("graphile-worker")
    print(f"peers in {CACHE}: " + (f"without {', '.join(failed)}" if failed else "all installed"))
    return 1 if failed else 0


def _install(peer: str, packages: tuple[str, ...]) -> bool:
    folder = CACHE / peer
    if not _run(sys.executable, "-m", "venv", "--clear", str(folder)):
        return False
    if not _run(str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *packages):
        return False
    (folder / _STAMP).touch()
    return True


def _run(*command: str) -> bool:
    print("+", *command, flush=True)
    try:
        return subprocess.run(command, cwd=CACHE, check=False).returncode == 0
    except OSError as error:
        print(f"cannot run {command[0]}: {error}", file=sys.stderr)
        return False


if __name__ == "__main__":
    sys.exit(main())
