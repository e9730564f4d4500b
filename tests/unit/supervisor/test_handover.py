"""Nothing that a master knows is forgotten between two images of it: each test here fails when something is."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import itertools
import json
import os
import socket
import types
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NewType, Union, get_args, get_origin, get_type_hints

import pytest

import soniqd
from soniqd.control import link, memory
from soniqd.control.plain import from_plain, to_plain
from soniqd.control.server import OpenConnection, OpenSocket
from soniqd.errors import ControlError
from soniqd.model.child import ChildSpec
from soniqd.supervisor.budget import BudgetHandover
from soniqd.supervisor.child import ChildHandover, ChildProcess
from soniqd.supervisor.generation import GenerationHandover
from soniqd.supervisor.handover import FORMAT, Handover, decode, descriptors, encode, judge
from soniqd.supervisor.ledger import LedgerHandover
from tests.support.waiting import eventually

PACKAGE = Path(soniqd.__file__).parent


# -- every field of every type in a state


def sample(kind: Any, numbers: Iterator[int]) -> Any:
    """Make a value of a type that is unlike every other one, and unlike any default."""
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(kind, NewType):
        return sample(kind.__supertype__, numbers)
    if origin in (Union, types.UnionType):
        return sample(next(each for each in arguments if each is not types.NoneType), numbers)
    if origin is Literal:
        return arguments[-1]
    if origin is tuple:
        kinds = arguments[:1] * 2 if arguments[-1] is Ellipsis else arguments
        return tuple(sample(each, numbers) for each in kinds)
    if origin in (list, set, frozenset):
        return origin(sample(arguments[0], numbers) for _ in range(2))
    if origin is dict:
        return {sample(arguments[0], numbers): sample(arguments[1], numbers) for _ in range(2)}
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        names = [field.name for field in dataclasses.fields(kind) if field.init]
        make: Any = kind
        return make(**{name: sample(hints[name], numbers) for name in names})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return list(kind)[-1]
    number = next(numbers)
    values = {str: f"text {number}", int: number, float: number + 0.5, bool: True, bytes: bytes([number % 256])}
    return {"any": number} if kind is Any else values[kind]


def test_a_state_comes_back_whatever_is_in_it():
    state = sample(Handover, itertools.count(1000))
    assert from_plain(Handover, json.loads(json.dumps(to_plain(state)))) == state


def fields_of(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def read_in(*files: str) -> set[str]:
    """Every attribute that these modules read."""
    found = set()
    for file in files:
        for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(f"{ast.unparse(node.value)}.{node.attr}")
    return found


@pytest.mark.parametrize(
    ("kind", "name", "files"),
    [
        (Handover, "handover", ("supervisor/takeover.py", "supervisor/daemon.py", "supervisor/handover.py")),
        (ChildHandover, "earlier", ("supervisor/child.py",)),
        (GenerationHandover, "earlier", ("supervisor/generation.py",)),
        (LedgerHandover, "earlier", ("supervisor/ledger.py",)),
        (BudgetHandover, "earlier", ("supervisor/budget.py",)),
        (OpenSocket, "self._handed_over", ("control/server.py",)),
        (OpenConnection, "each", ("control/server.py",)),
    ],
)
def test_what_is_handed_over_is_taken_up(kind, name, files):
    read = read_in(*files)
    # The format is judged before there is an object.
    forgotten = {field for field in fields_of(kind) - {"format"} if f"{name}.{field}" not in read}
    assert not forgotten, f"{kind.__name__} has fields that the next image does not look at: {forgotten}"


# -- every attribute of every object that a master is made of

WIRING = {
    "_backend", "_children", "_events", "_forget", "_generations", "_handler", "_insight", "_life", "_living", "_loop",
    "_master", "_mine", "_new_id", "_notifier", "_on_change", "_on_disowned", "_on_ended", "_on_entry", "_on_failed",
    "_on_message", "_out", "_plan", "_postmortems", "_processes", "_random", "_reaper", "_reloads", "_retired",
    "_rollback", "_roster", "_server", "_sleepers", "_starts", "_supervision", "_tell", "_wake", "_waker",
    "_watches_memory",
}  # fmt: skip
"""Other objects, and what they are told by: made of nothing but each other."""

ELSEWHERE: dict[str, dict[str, str]] = {
    "Master": {
        "_early": "it was booted",
        "reloads": "code, settings, config, last_reload",
        "restarts": "none is under way",
        "started_at": "started_at",
        "started_s": "started_s",
        "upgrades": "upgrades",
        "soft_nofile": "soft_nofile",
        "processes": "children",
        "generations": "generations",
        "retiring": "none is",
        "supervision": "roster",
        "backend": "connects anew",
        "reaper": "children and generations are watched anew",
        "postmortems": "memory_kills",
        "tap": "tap_fd, far_tap_fd",
        "ring": "events",
        "ledger": "ledger",
        "waker": "listens anew, and looks at once",
        "budget": "budget",
        "_driver": "made anew",
        "upgrading": "it is over",
        "service": "goes on as after an upgrade: the service manager is told that it is over",
        "hearing": "knows of nothing but the others",
        "_measuring": "measures anew",
    },
    "Driver": {
        "finished": "it is not",
        "_carry_out": "of the master",
        "_on_turn": "of the service",
        "_inbox": "it is empty",
        "_handling": "nothing is",
        "_timer": "set by the first event",
    },
    "Supervision": {
        "roster": "roster",
        "phase": "it is running",
        "_now_s": "the time of the last event",
        "_rollouts": "has the roster only",
        "_restarts": "has the roster only",
        "_recycler": "has the roster only",
        "_fork_servers": "has the roster only",
    },
    "ForkServers": {"_rollouts": "has the roster only", "_restarts": "has the roster only"},
    "ChildLife": {
        "stop_now_asked": "it is not stopping",
        "_ticks_read_s": "a first reading gives every child a fresh start",
    },
    "ChildProcess": {
        "spec": "spec",
        "pid": "pid",
        "state": "state",
        "said_goodbye": "said_goodbye",
        "farewell": "farewell",
        "hung": "hung",
        "remains": "read at its end",
        "requested_s": "requested_s",
        "box": "memory_fd, blackbox_fd",
        "far_link": "the child has it",
        "_link": "link_fd",
        "_linked": "link_fd",
        "_stuck": "what is unsent is sent when it is adopted",
        "_received": "received",
        "_unsent": "unsent",
        "_tap_fd": "the child has it",
    },
    "Box": {"memory_fd": "memory_fd", "blackbox_fd": "blackbox_fd", "memory": "mapped anew", "asking": "nobody asks"},
    "Generation": {
        "number": "number",
        "tasks": "tasks",
        "_interpreter": "python",
        "_settings": "settings",
        "_forkable": "forkable",
        "_main": "pid, fd",
        "_living": "pid",
        "_all_gone": "pid",
        "_retired": "it is not",
        "_becoming": "nothing is outstanding",
    },
    "ForkServerProcess": {
        "child": "nothing is outstanding",
        "booted": "nothing is outstanding",
        "next_request": "next_request",
        "_process": "pid, fd",
        "_generation": "number",
        "_unsettled": "nothing is outstanding",
        "_requests": "nothing is outstanding",
        "_waiting": "nothing is outstanding",
    },
    "Interpreter": {"path": "python", "_soft_nofile": "soft_nofile", "_early": "it was booted"},
    "InterpreterProcess": {"_pidfd": "opened anew"},
    "Ledger": {
        "_vacuuming": "begins anew: it may ask once more",
        "up": "up",
        "problem": "problem",
        "error": "told anew by the next duty that fails",
        "_has_schema": "looked at anew",
        "_releases": "releases",
        "_release_asked": "set by the releases",
        "_all_released": "set by the releases",
        "_leftovers_asked": "leftovers are settled at the start",
        "_prune_asked": "a batch is deleted at the start",
        "_foreign": "leftovers are settled at the start",
        "_times": "of the settings",
        "_beats": "found out anew: nobody sweeps before",
        "_tasks": "begun anew",
        "_succeeded_s": "orders overlapping statements of one image",
    },
    "ForeignWorkers": {"_here": "found anew", "_pidfds": "opened anew"},
    "Budget": {
        "problem": "problem",
        "_limits": "limits",
        "_bound": "of the settings",
        "_told": "computed anew",
        "_task": "begun anew",
    },
    "Reloads": {
        "settings": "settings",
        "config": "config",
        "code": "code",
        "last": "last_reload",
        "beginning": "none is",
        "begun": "counts those of one image",
        "_attempts": "none is under way",
        "_rehearsals": "soniqctl is being answered",
    },
    "Service": {"_facts": "of this image", "_talk": "goes on as after an upgrade"},
    "Restarts": {"_requests": "numbers of one image", "_waiting": "none is under way"},
    "Postmortems": {
        "memory_kills": "memory_kills",
        "_findings": "kept within one event only",
        "_aborts": "none is under way",
    },
    "MemoryKills": {"_count": "how to read it", "_samples": "memory_kills"},
    "Reaper": {
        "_owners": "watched anew",
        "_pidfds": "opened anew",
        "_early": "no fork is outstanding",
        "_expected": "no fork is outstanding",
    },
    "Tap": {
        "near": "tap_fd",
        "far": "far_tap_fd",
        "_followers": "their connections end, they may connect again",
        "_told": "every child is told anew",
        "_pause": "nobody follows",
    },
    "Ring": {
        "_entries": "events",
        "_followers": "their connections end, they may connect again",
        "_thread": "the same",
        "_format": "a constant",
    },
    "Measuring": {"_task": "begun anew", "_refused": "complained of once an image"},
    "Waker": {
        "_crew": "how to",
        "_woken": "whose turn it is, which is anybody's at the start",
        "_turns": "whose turn it is",
        "_due_s": "looked up at the start",
        "_due_changed": "looked up at the start",
        "_tasks": "begun anew",
        "_wake_ups": "subscribed anew",
    },
    "Insight": {"_looked": "asked anew", "_error": "asked anew", "_asking": "asked anew"},
    "Usage": {"_memory": "measured anew", "_memory_s": "measured anew", "_measuring": "measured anew"},
    "Following": {},
    "Groups": {},
    "Commands": {"_upgrades": "last is made of the state", "_commands": "a constant"},
    "Signals": {"_state": "how to", "_groups": "how to", "_upgrade": "how to", "_reloads": "none is under way"},
    "Upgrade": {"_attempt": "it has ended", "last": "made of the state"},
    "SelfCheck": {
        "_pidfd": "sees the end of its socket",
        "_errors": "its last words",
        "_exited": "reaped as an orphan",
        "_socket": "ends with the image",
    },
    "ControlServer": {
        "_spare": "taken up anew",
        "_path": "settings",
        "_group": "settings",
        "_limits": "constants",
        "_inherited": "control",
        "_handed_over": "control",
        "_listener": "control",
        "_accepting": "begun anew",
        "_conversations": "control",
        "_clients": "control",
        "_answering": "control",
    },
    "Conversation": {
        "connection": "fd",
        "_lines": "received",
        "request": "answering",
        "stream": "its connection ends",
        "_limits": "constants",
    },
    "_Hearing": {"_outcome": "a rehearsal is a command that is being answered"},
    "Recycler": {},
    "Rollback": {},
    "RollingRestarts": {},
    "Rollouts": {},
    "Starts": {},
    "Runs": {"done": "roster", "failed": "roster"},
}
"""Where the next image of a master has each attribute from: fields of the state, or a reason why it needs none."""


def attributes() -> Iterator[tuple[str, set[str]]]:
    """Every class that a master is made of, with what its methods assign to ``self``."""
    files = [*(PACKAGE / "supervisor").glob("*.py"), *(PACKAGE / "policy/supervision").glob("*.py")]
    for file in [*files, PACKAGE / "control/server.py", PACKAGE / "control/conversation.py"]:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and (names := set(_assigned(node))):
                yield node.name, names


def _assigned(node: ast.ClassDef) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store) and ast.unparse(each.value) == "self":
            yield each.attr


@pytest.mark.parametrize(("name", "assigned"), sorted(attributes()))
def test_it_is_said_of_each_attribute_what_becomes_of_it(name, assigned):
    said = ELSEWHERE.get(name, {}).keys() | WIRING
    assert not assigned - said, (
        f"{name} has attributes that the next image of a master does not have: hand them over "
        f"(soniqd/supervisor/handover.py), or say in ELSEWHERE how it gets along without: {assigned - said}"
    )


def test_nothing_is_said_of_what_is_not_there():
    there = dict(attributes())
    gone = {name: sorted(said.keys() - there.get(name, set())) for name, said in ELSEWHERE.items()}
    assert not {name: names for name, names in gone.items() if names}
    assert ELSEWHERE.keys() <= there.keys() | {name for name, said in ELSEWHERE.items() if not said}


# -- descriptors


def test_descriptors_are_found_wherever_they_are():
    state = sample(Handover, itertools.count(5000))
    child, generation = state.children[0], state.generations[1]
    found = list(descriptors(state))
    assert {child.link_fd, child.memory_fd, child.blackbox_fd, generation.fd} <= set(found)
    assert {state.control.fd, state.control.connections[1].fd, state.tap_fd, state.far_tap_fd} <= set(found)
    assert len(found) == 2 * 3 + 2 + 1 + 2 + 2


def test_a_descriptor_that_is_not_there_is_none():
    state = sample(Handover, itertools.count())
    child = dataclasses.replace(state.children[0], link_fd=None)
    assert all(isinstance(fd, int) for fd in descriptors(dataclasses.replace(state, children=(child,))))


# -- a child


class NoReaper:
    """Watches nobody."""

    def watch(self, pid, on_exit): ...


async def test_a_child_that_goes_on_is_the_same_child(tmp_path):
    loop = asyncio.get_running_loop()
    spec = ChildSpec(role="worker", group="mail", index=2, generation=3, worker_id="w", concurrency=4)
    child = ChildProcess(spec, loop, NoReaper(), tap_fd=-1)  # type: ignore[arg-type]
    assert child.far_link is not None
    child.adopt(4711, on_message=lambda *_: None, on_exit=lambda *_: None)
    child.state = link.State(phase="running", in_flight=2, running=("a", "b"), looked_s=7.5)
    child.said_goodbye, child.farewell, child.hung, child.requested_s = True, "tired", True, 12.5
    child._received, child._unsent = b'{"type": "re', b'{"type"'
    memory.ChildMemory(child.box.memory_fd).tick()
    described = child.hand_over()
    kept = dataclasses.replace(
        described,
        link_fd=os.dup(described.link_fd or 0),
        memory_fd=os.dup(described.memory_fd),
        blackbox_fd=os.dup(described.blackbox_fd),
    )
    far = child.far_link.dup()
    child.close()
    heard: list[link.Message] = []
    resumed = ChildProcess.resume(kept, loop, NoReaper(), tap_fd=-1)  # type: ignore[arg-type]
    try:
        assert resumed.tick == 1
        assert resumed.hand_over() == kept
        resumed.adopt(4711, on_message=lambda _, message: heard.append(message), on_exit=lambda *_: None)
        assert far.recv(100) == b'{"type"'
        far.send(b'ady", "pid": 5}\n')
        await eventually(lambda: heard)
        assert heard == [link.Ready(5)]
    finally:
        resumed.close()
        far.close()


async def test_a_child_that_has_hung_up_goes_on_without_a_link():
    loop = asyncio.get_running_loop()
    spec = ChildSpec(role="worker", group="mail", index=2, generation=3, worker_id="w")
    child = ChildProcess(spec, loop, NoReaper(), tap_fd=-1)  # type: ignore[arg-type]
    child.adopt(4711, on_message=lambda *_: None, on_exit=lambda *_: None)
    assert child.far_link is not None
    child.far_link.close()
    await eventually(lambda: child.hand_over().link_fd is None)
    described = child.hand_over()
    kept = dataclasses.replace(
        described, memory_fd=os.dup(described.memory_fd), blackbox_fd=os.dup(described.blackbox_fd)
    )
    child.close()
    resumed = ChildProcess.resume(kept, loop, NoReaper(), tap_fd=-1)  # type: ignore[arg-type]
    resumed.adopt(4711, on_message=lambda *_: None, on_exit=lambda *_: None)
    resumed.send(link.Wake())
    assert resumed.hand_over() == kept
    resumed.close()


# -- judging


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "soniq.toml"
    path.write_text('[jobs]\nmodules = ["m"]\n[[workers]]\n')
    return path


def test_what_is_no_state_is_refused():
    for state in (b"", b"[]", b"{}", b"null", b'{"format": 1}', b"\xff"):
        with pytest.raises(ControlError, match="cannot read a master's state"):
            decode(state)


def test_a_state_of_another_format_names_both_releases():
    state = dataclasses.replace(sample(Handover, itertools.count()), version="9.9", format=FORMAT + 1)
    with pytest.raises(
        ControlError, match=rf"state of soniqd 9\.9: it is in format {FORMAT + 1}, soniqd .* reads {FORMAT}"
    ):
        decode(encode(state))


def test_settings_that_this_release_does_not_know_are_named(config):
    state = dataclasses.replace(sample(Handover, itertools.count()), format=FORMAT, settings={"jobs": {"speed": 3}})
    (problem,) = judge(encode(state), config)
    assert "speed" in problem


def test_sockets_are_closed_where_a_state_is_only_judged():
    """Judging touches nothing: the numbers in a state are those of another process."""
    near, far = socket.socketpair()
    state = dataclasses.replace(sample(Handover, itertools.count()), format=FORMAT, tap_fd=near.fileno())
    judge(encode(state), Path("/nowhere"))
    near.send(b"x")
    assert far.recv(1) == b"x"
    near.close()
    far.close()
