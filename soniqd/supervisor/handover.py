"""What one image of the master tells the next one: all of its state, as plain JSON, and the descriptors it names.

:class:`Handover` is the whole list. What is not in it is made anew by the next image: connections to the database and
the duties there, timers, pidfds (a child's pid is its own until this process, its parent, has reaped it).

``FORMAT`` grows when an older state would be misread; a field that only one side knows is seen without that (see
:mod:`soniqd.control.plain`). Children and fork servers of the old image live on, so what they speak counts, too: with
another link or memory a new image refuses, with another fork protocol it boots the fork servers anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from soniqd.control import fork, link, memory
from soniqd.control.plain import from_plain, to_plain
from soniqd.control.server import OpenSocket
from soniqd.errors import ConfigurationError, ControlError
from soniqd.policy.supervision.roster import Roster
from soniqd.settings import dump_settings, load_daemon_settings, restore_settings
from soniqd.settings.host import this_host
from soniqd.supervisor.budget import BudgetHandover
from soniqd.supervisor.child import ChildHandover
from soniqd.supervisor.generation import GenerationHandover
from soniqd.supervisor.ledger import LedgerHandover
from soniqd.supervisor.master import Master
from soniqd.supervisor.reloading import ReloadResult
from soniqd.version import __version__

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Protocols:
    """What the processes that live on speak."""

    link: int = link.PROTOCOL
    memory: int = memory.LAYOUT
    fork: int = fork.PROTOCOL


@dataclass(frozen=True, slots=True)
class Handover:
    """See the module. Times in ``_s`` are CLOCK_MONOTONIC, which does not notice that the image changes."""

    format: int
    version: str
    pid: int
    protocols: Protocols
    began_s: float
    left_s: float
    started_at: float
    started_s: float
    upgrades: int
    config: str | None
    settings: dict[str, Any]
    roster: Roster
    children: tuple[ChildHandover, ...]
    generations: tuple[GenerationHandover, ...]
    ledger: LedgerHandover
    last_reload: ReloadResult | None
    tap_fd: int
    far_tap_fd: int
    control: OpenSocket
    code: dict[str, str]
    soft_nofile: int | None
    events: tuple[dict[str, Any], ...]
    budget: BudgetHandover
    memory_kills: int | None


def describe(master: Master, *, control: OpenSocket, began_s: float, now_s: float) -> Handover:
    """Take down what this image knows; only between two events, with nothing outstanding."""
    return Handover(
        format=FORMAT,
        version=__version__,
        pid=os.getpid(),
        protocols=Protocols(),
        began_s=began_s,
        left_s=now_s,
        started_at=master.started_at,
        started_s=master.started_s,
        upgrades=master.upgrades,
        config=None if master.reloads.config is None else str(master.reloads.config),
        settings=dump_settings(master.reloads.settings),
        roster=master.supervision.roster,
        children=tuple(child.hand_over() for child in master.processes.values()),
        generations=tuple(generation.hand_over() for generation in master.generations.values()),
        ledger=master.ledger.hand_over(),
        last_reload=master.reloads.last,
        tap_fd=master.tap.near.fileno(),
        far_tap_fd=master.tap.far.fileno(),
        control=control,
        code=master.reloads.code,
        soft_nofile=master.soft_nofile,
        events=master.ring.entries,
        budget=master.budget.hand_over(),
        memory_kills=master.postmortems.memory_kills.counted,
    )


def outstanding(master: Master) -> str | None:
    """Name what is half done, if anything is: only the image that has begun it can end it."""
    return next(_half_done(master), None)


def _half_done(master: Master) -> Iterator[str]:
    supervision = master.supervision
    yield from (reason for each in master.generations.values() if (reason := each.outstanding))
    yield from (f"{child.spec.slot} is about to start" for child in master.processes.values() if child.pid is None)
    yield from (f"{', '.join(each.groups)} is being restarted" for each in supervision.roster.restarts)
    yield from (f"{place.slot} is being replaced" for place in supervision.roster.places.values() if place.successor)
    if master.retiring:
        yield "a fork server is about to leave"
    if master.postmortems.aborting:
        yield "a hung process is being ended"
    if not supervision.settled:
        yield "a change is under way"


def encode(handover: Handover) -> bytes:
    """Give a state its bytes."""
    return json.dumps(to_plain(handover)).encode()


def decode(state: bytes) -> Handover:
    """Read a state, also one of another release; raises ControlError that says why it cannot be read."""
    try:
        plain = json.loads(state)
        version, format_ = plain["version"], plain["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ControlError(f"cannot read a master's state: {error!r}") from error
    if format_ != FORMAT:
        raise ControlError(
            f"cannot read the state of soniqd {version}: it is in format {format_}, soniqd {__version__} reads {FORMAT}"
        )
    return from_plain(Handover, plain)


def descriptors(part: Any) -> Iterator[int]:
    """List every descriptor in a state: the values of ``fd`` and of what ends in ``_fd``."""
    if is_dataclass(part):
        for field in fields(part):
            value = getattr(part, field.name)
            if field.name == "fd" or field.name.endswith("_fd"):
                if value is not None:
                    yield value
            else:
                yield from descriptors(value)
    elif isinstance(part, tuple):
        for item in part:
            yield from descriptors(item)


def judge(state: bytes, config: Path) -> list[str]:
    """Say what keeps this release from going on with a state, in this process or in any other; nothing is touched."""
    try:
        handover = decode(state)
        restore_settings(handover.settings)
    except (ControlError, ConfigurationError) as error:
        return [str(error)]
    return [*_contradictions(handover), *_unspoken(handover), *_problems_of(config)]


def _contradictions(handover: Handover) -> Iterator[str]:
    known, described = set(handover.roster.children), {child.spec.worker_id for child in handover.children}
    if known != described:
        yield f"the state has children that are only half there: {', '.join(sorted(known ^ described))}"
    if handover.roster.rollout is not None:
        yield "a reload is under way"


def _unspoken(handover: Handover) -> Iterator[str]:
    """Name what living children speak and this release does not."""
    for name in ("link", "memory"):
        theirs, ours = getattr(handover.protocols, name), getattr(Protocols(), name)
        if theirs != ours:
            yield (
                f"the children of soniqd {handover.version} speak {name} protocol {theirs}, soniqd {__version__} "
                f"speaks {ours}: restart soniqd instead"
            )


def _problems_of(config: Path) -> Iterator[str]:
    """Settings in force go on, but a file that this release cannot read would fail the next start."""
    try:
        load_daemon_settings(config, environ=os.environ, host=this_host())
    except ConfigurationError as error:
        yield from error.problems or (str(error),)
