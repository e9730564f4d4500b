"""What soniqctl asks the master, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PROTOCOL = 1
"""Grows when an older side would misunderstand a newer one."""


@dataclass(frozen=True, slots=True)
class Request:
    """One command. ``id`` comes back with the response; ``params`` are the command's own."""

    id: int
    command: str
    params: dict[str, Any] = field(default_factory=dict)
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The command was carried out."""

    id: int
    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """The command was refused or failed; ``code`` is an error's stable code, ``problems`` its findings if any."""

    id: int
    code: str
    message: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Items:
    """Some of the answer to a command that has many; a Succeeded or Failed with the same id comes at the end."""

    id: int
    items: tuple[dict[str, Any], ...]


Response = Succeeded | Failed
