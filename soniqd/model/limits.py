"""What a database server allows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Connections that a server allows to everybody together, and those that it keeps back for administrators.

    ``role`` and ``database`` are the limits of the role that we are and of the database that we use (ALTER ROLE,
    ALTER DATABASE ... CONNECTION LIMIT); None is no limit, as for a superuser.
    """

    max_connections: int
    reserved: int
    role: int | None = None
    database: int | None = None
