"""Messages between the master and a fork server, and the child that a fork request describes.

The two are separate programs, possibly of different installations (``[jobs] python``), so each names its protocol and
version in its first message. The conversation:

    master                                fork server
    Boot                            ->    imports the jobs modules
                                    <-    Booted | BootFailed
    Fork + ChildDescriptors         ->    forks twice; the child is adopted by the master (child subreaper)
                                    <-    Forked | ForkFailed
    (end of file)                   ->    leaves
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from soniqd.errors import ControlError
from soniqd.model.child import ChildSpec, ProcessAttributes, Role, Slot

__all__ = [
    "MAX_PACKET",
    "PROTOCOL",
    "Boot",
    "BootFailed",
    "Booted",
    "ChildDescriptors",
    "ChildSpec",
    "Fork",
    "ForkFailed",
    "Forked",
    "Message",
    "Role",
    "Slot",
    "decode",
    "encode",
]

PROTOCOL = 2
MAX_PACKET = 128 * 1024


@dataclass(frozen=True, slots=True)
class Boot:
    """First packet. ``settings`` is the daemon's effective settings as plain JSON (see soniqd.settings)."""

    generation: int
    settings: dict[str, Any]
    version: str
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True)
class Booted:
    """The modules are imported. ``threads`` names threads that they started: such a process must not fork.

    ``code`` has a digest for each part of the code (see soniqd.forkserver.fingerprint).
    """

    version: str
    python: str
    tasks: tuple[str, ...]
    schedules: tuple[str, ...]
    threads: tuple[str, ...]
    import_s: float
    code: dict[str, str] = field(default_factory=dict)
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True)
class BootFailed:
    """The modules cannot be used; ``problems`` are for people, ``traceback`` is the whole story or empty.

    ``transient``: it may be otherwise the next time, as with an import that waited too long for something.
    """

    problems: tuple[str, ...]
    traceback: str
    version: str
    transient: bool = False
    protocol: int = PROTOCOL


class ChildDescriptors(NamedTuple):
    """What comes beside a :class:`Fork`, in this order.

    ``link``: the child's end of its stream socket (:mod:`soniqd.control.link`). ``memory`` and ``blackbox``: see
    :mod:`soniqd.control.memory`. ``tap``: a datagram socket for log lines, the same one for all children of a master.
    """

    link: int
    memory: int
    blackbox: int
    tap: int


@dataclass(frozen=True, slots=True)
class Fork:
    """Make a child. The packet carries its :class:`ChildDescriptors`."""

    request: int
    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class Forked:
    """The child exists and its parent is gone, so that it is (or is about to be reaped as) the master's."""

    request: int
    pid: int


@dataclass(frozen=True, slots=True)
class ForkFailed:
    """No child was made."""

    request: int
    error: str


Message = Boot | Booted | BootFailed | Fork | Forked | ForkFailed

_TYPES: dict[str, type[Any]] = {
    "boot": Boot,
    "booted": Booted,
    "boot_failed": BootFailed,
    "fork": Fork,
    "forked": Forked,
    "fork_failed": ForkFailed,
}
_NAMES = {cls: name for name, cls in _TYPES.items()}
_TUPLES = frozenset({"tasks", "schedules", "threads", "problems", "queues"})


def encode(message: Message) -> bytes:
    """Give a message its packet; raises ControlError when it does not fit one."""
    packet = json.dumps({"type": _NAMES[type(message)], **asdict(message)}).encode()
    if len(packet) > MAX_PACKET:
        raise ControlError(f"cannot send {_NAMES[type(message)]}: {len(packet)} bytes are more than {MAX_PACKET}")
    return packet


def decode(packet: bytes) -> Message:
    """Read a packet; raises ControlError when it is not one of these messages."""
    try:
        fields = json.loads(packet)
        cls = _TYPES[fields.pop("type")]
        if "spec" in fields:
            fields["spec"] = _spec(_tuples(fields["spec"]))
        message: Message = cls(**_tuples(fields))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ControlError(f"cannot read a fork server packet: {error}") from error
    return message


def _spec(fields: dict[str, Any]) -> ChildSpec:
    attributes = {name: _frozen(value) for name, value in fields.pop("attributes").items()}
    return ChildSpec(**fields, attributes=ProcessAttributes(**attributes))


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if name in _TUPLES else value for name, value in fields.items()}
