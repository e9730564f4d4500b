"""What children tell reaches the supervision machine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from soniqd.model.child import ExitCause
from soniqd.policy.supervision import events as ev
from soniqd.supervisor.hearing import Hearing


class _Blind:
    def examine(self, child: Any, cause: ExitCause) -> ExitCause:
        raise OSError("the box cannot be read")


def test_an_exit_is_heard_though_nothing_can_be_found_out_about_it() -> None:
    told: list[ev.Event] = []
    child = SimpleNamespace(spec=SimpleNamespace(slot="default/1", generation=1), said_goodbye=False, farewell=None)
    processes = cast("Any", {"w1": child})
    parts = cast("Any", SimpleNamespace())
    hearing = Hearing(
        processes,
        {},
        supervision=parts,
        reloads=parts,
        postmortems=cast("Any", _Blind()),
        waker=parts,
        tell=told.append,
        forget=lambda _: None,
        retired=lambda _: None,
    )

    hearing._on_exit("w1", ExitCause(signal=9))

    assert told == [ev.Exited("w1", ExitCause(signal=9), announced=False)]
    assert processes == {}
