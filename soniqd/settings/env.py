"""The environment as settings see it: real variables first, then those of a ``.env`` file; empty ones are not set."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that is set, and where: ``origin`` names it for people."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Environment:
    """Variables of the process, then those of a file; ``problems`` tells why the file could not be used."""

    process: Mapping[str, str]
    file: Mapping[str, str]
    path: Path
    problems: tuple[str, ...] = ()

    @classmethod
    def read(cls, environ: Mapping[str, str], path: Path) -> Environment:
        """Take the variables of ``environ``, and those of the ``.env`` file at ``path`` if there is one."""
        if not os.path.lexists(path):
            return cls(environ, {}, path)
        # Only here: most processes have no .env, and none needs python-dotenv's 25 ms without one.
        from dotenv import dotenv_values  # noqa: PLC0415

        try:
            values = dotenv_values(stream=io.StringIO(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "it is not UTF-8"
            return cls(environ, {}, path, (f"{path}: cannot read: {reason}",))
        return cls(environ, {name: value for name, value in values.items() if value is not None}, path)

    @property
    def credentials(self) -> Path | None:
        """The folder in which systemd puts credentials (systemd.exec(5))."""
        folder = self.process.get("CREDENTIALS_DIRECTORY")
        return Path(folder) if folder else None

    def get(self, name: str) -> Variable | None:
        """Return a variable; None if it is not set, or empty."""
        if value := self.process.get(name):
            return Variable(name, value, name)
        if value := self.file.get(name):
            return Variable(name, value, f"{self.path}: {name}")
        return None

    def first(self, *names: str) -> Variable | None:
        """Return the first of several names that is set in the process, or else the first that is set in the file."""
        found = [variable for name in names if (variable := self.get(name))]
        found.sort(key=lambda variable: variable.name not in self.process)
        return found[0] if found else None


def comma_separated(value: str) -> list[str]:
    """Split a list as it is written in a variable; empty items are dropped."""
    return [item for part in value.split(",") if (item := part.strip())]
