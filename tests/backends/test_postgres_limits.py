"""Reading the server's connection limits."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from soniqd.backends.postgres import PostgresBackend
from soniqd.model.limits import ServerLimits
from tests.support.postgres import PostgresServer


async def read(url: str) -> ServerLimits | None:
    backend = PostgresBackend(url)
    try:
        return await backend.connection_limits()
    finally:
        await backend.close()


async def test_a_superuser_is_bounded_by_what_is_not_reserved(postgres_server: PostgresServer, postgres_url: str):
    name = postgres_url.rpartition("/")[2]
    postgres_server.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 40")
    assert await read(postgres_url) == ServerLimits(max_connections=200, reserved=3, role=None, database=None)


async def test_a_role_is_bounded_by_its_own_and_the_databases_limit(postgres_server: PostgresServer, postgres_url: str):
    name = postgres_url.rpartition("/")[2]
    postgres_server.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 40")
    postgres_server.execute(f"CREATE ROLE of_{name} LOGIN CONNECTION LIMIT 20")
    try:
        limits = await read(postgres_server.url(name, user=f"of_{name}"))
        assert limits == ServerLimits(max_connections=200, reserved=3, role=20, database=40)
    finally:
        postgres_server.execute(f"DROP ROLE of_{name}")


async def test_a_role_without_limits_is_bounded_by_the_server_alone(postgres_server: PostgresServer, postgres_url: str):
    name = postgres_url.rpartition("/")[2]
    postgres_server.execute(f"CREATE ROLE of_{name} LOGIN")
    try:
        limits = await read(postgres_server.url(name, user=f"of_{name}"))
        assert limits == ServerLimits(max_connections=200, reserved=3)
    finally:
        postgres_server.execute(f"DROP ROLE of_{name}")


async def test_behind_a_pooler_the_servers_limits_say_nothing(postgres_server: PostgresServer, postgres_url: str):
    name = postgres_url.rpartition("/")[2]
    async with PidChangingProxy(postgres_server.port) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}?sslmode=disable&gssencmode=disable"
        assert await read(url) is None
        assert proxy.changed == 1


class PidChangingProxy:
    """Makes the process id of a new connection up, as poolers do, in BackendKeyData (PostgreSQL manual, 55.7)."""

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self.changed = 0
        self._server_port = server_port
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        await asyncio.gather(*self._tasks)

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._tasks = {
            asyncio.create_task(self._copy(from_client, to_server)),
            asyncio.create_task(self._answer(from_server, to_client)),
        }

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readexactly(5)
                body = await reader.readexactly(int.from_bytes(head[1:]) - 4)
                if head[:1] == b"K":
                    self.changed += 1
                    body = (1).to_bytes(4) + body[4:]
                writer.write(head + body)
        except asyncio.IncompleteReadError:
            writer.close()
