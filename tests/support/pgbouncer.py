"""A throw-away PgBouncer in front of the tests' PostgreSQL server."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import psycopg

from tests.support.postgres import PostgresServer
from tests.support.waiting import eventually_sync

PoolMode = Literal["session", "transaction"]

_CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server_port} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {pool_size}
max_client_conn = 200
server_lifetime = 3600
logfile = {folder}/pgbouncer.log
"""


def find_pgbouncer() -> str | None:
    """Return the program; it is not in the PATH of everybody."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class PgBouncer:
    """One pooler, while in the block."""

    def __init__(self, server: PostgresServer, *, mode: PoolMode, pool_size: int = 5) -> None:
        self._server = server
        self._mode = mode
        self._pool_size = pool_size
        self._folder = Path(tempfile.mkdtemp(prefix="soniqd-bouncer-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        configuration = self._folder / "pgbouncer.ini"
        configuration.write_text(self._configuration())
        program = find_pgbouncer()
        assert program is not None
        command = [program, str(configuration)]
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)
            command[1:1] = ["-u", "nobody"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually_sync(self._answers, timeout_s=15)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=30)
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, direct: str) -> str:
        """Return the URL that leads through the pooler to the same database."""
        return direct.replace(f":{self._server.port}/", f":{self.port}/")

    def log_text(self) -> str:
        return (self._folder / "pgbouncer.log").read_text()

    def _configuration(self) -> str:
        return _CONFIGURATION.format(
            server_port=self._server.port,
            port=self.port,
            mode=self._mode,
            pool_size=self._pool_size,
            folder=self._folder,
        )

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"pgbouncer ended with {self._process.returncode}")
        try:
            psycopg.connect(self.url(self._server.url()), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True
