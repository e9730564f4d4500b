"""How many connections the server leaves us."""

from __future__ import annotations

from soniqd.backends.postgres.connection import Connection
from soniqd.backends.postgres.database import execute
from soniqd.backends.postgres.failure import translated
from soniqd.backends.postgres.statements import SQL
from soniqd.model.limits import ServerLimits


async def read_limits(connection: Connection) -> ServerLimits | None:
    """Read what the server, the role and the database allow.

    None behind a pooler such as PgBouncer: what we connect to then has limits of its own that cannot be asked for. It
    shows in the process id that came with the connection, which is none of the server's.
    """
    statement = SQL["connection_limits"]
    with translated(statement.purpose):
        [row] = await execute(connection, statement, {})
    pid, most, reserved, role, database = (value if isinstance(value, int) else None for value in row)
    if pid != connection.info.backend_pid or most is None:
        return None
    return ServerLimits(most, reserved or 0, role, database)
