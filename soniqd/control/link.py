"""Messages between the master and one child, a line of JSON each.

The child says :class:`State` from its first moment on whenever its numbers changed, at most four times a second and at
once for a new phase; :class:`Ready` when it is registered and about to work (it may have to wait for its database until
then); :class:`More` where a wake-up met more work than it could take; :class:`Leaving` before a deliberate exit.
The master steers with :class:`Wake`, :class:`Pause`, :class:`Resume` and :class:`Drain`, and asks for log lines with
:class:`Follow`. End of file tells either side that the other is gone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from soniqd.errors import ControlError

PROTOCOL = 1
"""Grows when a child and a master of another release would misunderstand each other: no soniqctl upgrade between them.

A child that does not know a message takes its link for broken, and leaves: to send a new one to old children counts.
"""
MAX_LINE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Ready:
    """The child can work; ``pid`` is its own view, for checking."""

    pid: int


@dataclass(frozen=True, slots=True)
class State:
    """What the child is doing. ``free`` is how many jobs more it would claim; ``phase`` is for people.

    ``phase`` is one of starting, running, paused, draining, waiting_for_database, leading, following.
    ``done`` and ``failed`` count outcomes since it started; ``running`` names the jobs in flight, oldest first, cut
    to the first few. ``looked_s`` is when a claim was last answered (CLOCK_MONOTONIC, which all processes of a host
    share), with jobs or with none; None before the first. ``oldest_id`` is the job that ``running`` begins with.
    """

    phase: str
    in_flight: int = 0
    free: int = 0
    done: int = 0
    failed: int = 0
    running: tuple[str, ...] = ()
    looked_s: float | None = None
    oldest_id: str | None = None


@dataclass(frozen=True, slots=True)
class More:
    """A woken worker's claim came back full: there may be work for another worker too. Sent once a wake at most."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """The child is about to exit by itself. ``unfinished`` jobs were given back; ``reason`` is for people."""

    reason: str
    unfinished: int = 0


@dataclass(frozen=True, slots=True)
class Wake:
    """There is something to claim."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Claim nothing more until Resume; running jobs go on, unstarted ones are given back."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Claim again."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Finish what runs within ``timeout_s``, give back the rest, leave. A second Drain shortens the first."""

    timeout_s: float


@dataclass(frozen=True, slots=True)
class Follow:
    """Copy log lines to the tap: of this level (a number of ``logging``) and above, of these jobs or of any.

    ``level`` None: nobody follows any more. Each Follow replaces the one before.
    """

    level: int | None
    jobs: tuple[str, ...] | None = None


Message = Ready | State | More | Leaving | Wake | Pause | Resume | Drain | Follow

_TYPES: dict[str, type[Any]] = {
    "ready": Ready,
    "state": State,
    "more": More,
    "leaving": Leaving,
    "wake": Wake,
    "pause": Pause,
    "resume": Resume,
    "drain": Drain,
    "follow": Follow,
}
_NAMES = {cls: name for name, cls in _TYPES.items()}


def encode(message: Message) -> bytes:
    """Give a message its line, newline included."""
    return _LINES.get(type(message)) or _written(message)


def _written(message: Message) -> bytes:
    return json.dumps({"type": _NAMES[type(message)], **asdict(message)}).encode() + b"\n"


def decode(line: bytes) -> Message:
    """Read one line; raises ControlError when it is not one of these messages."""
    if line in _WITHOUT_FIELDS:
        return _WITHOUT_FIELDS[line]
    try:
        fields = json.loads(line)
        cls = _TYPES[fields.pop("type")]
        for name in ("running", "jobs"):
            if isinstance(fields.get(name), list):
                fields[name] = tuple(fields[name])
        message: Message = cls(**fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ControlError(f"cannot read a link message: {error}") from error
    return message


# Read and written once: a job that has just been stored waits for Wake to get through.
_PLAIN: tuple[Message, ...] = (Wake(), Pause(), Resume(), More())
_LINES: dict[type[Any], bytes] = {type(message): _written(message) for message in _PLAIN}
_WITHOUT_FIELDS: dict[bytes, Message] = {_written(message).rstrip(): message for message in _PLAIN}
