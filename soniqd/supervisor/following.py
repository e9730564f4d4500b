"""The commands whose answer has no end: ``logs`` and ``events``."""

from __future__ import annotations

import logging
from typing import Any

from soniqd.control.stream import Stream
from soniqd.errors import ControlError
from soniqd.settings.problems import did_you_mean
from soniqd.supervisor.master import Master
from soniqd.supervisor.ring import KEPT
from soniqd.supervisor.tap import Wanted


class Following:
    """Opens streams; what is asked for has to exist, so that nobody waits for a word of nobody."""

    def __init__(self, master: Master) -> None:
        self._master = master

    async def logs(self, params: dict[str, Any]) -> Stream:
        """Follow lines: of a level, a job, a group, a slot."""
        job = params.get("job")
        wanted = self._wanted(params, job=None if job is None else str(job))
        return self._master.tap.follow(wanted)

    async def events(self, params: dict[str, Any]) -> Stream:
        """Tell the last events, and those to come if asked to: of a level, a group, a slot, of some names."""
        wanted = self._wanted(params, job=None)
        names, after = frozenset(map(str, params.get("names") or ())), str(params.get("after") or "")

        def wants(entry: dict[str, Any]) -> bool:
            return wanted.matches(entry) and (not names or entry.get("event") in names) and str(entry.get("ts")) > after

        last = params.get("last")
        return self._master.ring.follow(
            wants, last=KEPT if last is None else int(last), follow=bool(params.get("follow"))
        )

    def _wanted(self, params: dict[str, Any], *, job: str | None) -> Wanted:
        roster = self._master.supervision.roster
        group, slot, level = params.get("group"), params.get("slot"), params.get("level")
        groups = [plan.name for plan in roster.plan]
        if group is not None and group not in groups:
            known, hint = ", ".join(groups), did_you_mean(group, groups)
            raise ControlError(f"cannot follow {group}: there is no such group; there are {known}{hint}")
        slots = sorted({*roster.places, *(child.spec.slot for child in roster.children.values())})
        if slot is not None and slot not in slots:
            known, hint = ", ".join(slots), did_you_mean(slot, slots)
            raise ControlError(f"cannot follow {slot}: there is no such process; there are {known}{hint}")
        levels = logging.getLevelNamesMapping()
        if level is not None and level not in levels:
            raise ControlError(f"cannot follow level {level}: there is no such level")
        return Wanted(level=levels[level] if level else logging.NOTSET, job=job, group=group, slot=slot)
