"""What a reload did, or would do, in words."""

from __future__ import annotations

from typing import Any

from soniqd.cli.render import print_line, print_table
from soniqd.cli.wording import count, duration

_UNSEEN = (
    "code is compared by the files of imported packages: if it reads something else when it is imported, "
    "soniqctl reload --all replaces everything"
)
_WHY_LENGTH = 3
"""Reasons shown in a row; --json has all."""


def print_reload(answer: dict[str, Any]) -> None:
    """Say what became of a reload that went well."""
    changes = answer.get("changes") or {}
    replaced, kept = int(answer.get("replaced", 0)), int(answer.get("kept", 0))
    generation, took = answer.get("generation"), duration(answer.get("duration_s"))
    if changes and not _changed_groups(changes):
        what = "no process is concerned" if changes["settings"] else "nothing has changed"
        ready = f"generation {generation} is ready for the next ones"
        print_line(f"reloaded: {what}, {_processes(kept)} stayed; {ready}, in {took}")
        _print_settings(changes)
        if not changes["settings"]:
            print_line(_UNSEEN, tone="quiet")
        return
    rest = f", {kept} not concerned" if kept else ""
    verb = "replaced or started" if any(group["started"] for group in changes.get("groups", ())) else "replaced"
    print_line(f"reloaded: generation {generation}, {_processes(replaced)} {verb} in {took}{rest}")
    if changes:
        _print_settings(changes)
        _print_groups(_changed_groups(changes), ("group", "started", "stopped", "replaced", "stayed", "why"))


def print_rehearsal(answer: dict[str, Any]) -> None:
    """Say what a reload would do, and that nothing was done."""
    for problem in answer["problems"]:
        print_line(f"! {problem}", tone="bad")
    for key in answer["needs_restart"]:
        print_line(f"! {key} changed: restart soniqd to apply that", tone="bad")
    changes = answer["changes"]
    if changes is not None:
        _print_settings(changes)
        _print_groups(changes["groups"], ("group", "start", "stop", "replace", "stay", "why"))
    if answer["refused"]:
        print_line("a reload would be refused; nothing was done", tone="bad")
    elif not _changed_groups(changes):
        what = "no process would be replaced" if changes["settings"] else "nothing has changed, all would stay"
        print_line(f"{what}; nothing was done")
        print_line(_UNSEEN, tone="quiet")
    else:
        print_line("the new code can be imported; nothing was done")


def _changed_groups(changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [group for group in changes["groups"] if group["action"] != "stay"]


def _print_settings(changes: dict[str, Any]) -> None:
    """Settings of the master itself; those that replace children are among the groups' reasons."""
    reasons = {reason for group in changes["groups"] for reason in group["reasons"]}
    for setting in changes["settings"]:
        if setting not in reasons:
            print_line(f"{setting} (no process has to be replaced for it)")


def _print_groups(groups: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    rows = [
        (
            group["name"],
            *(group[number] or "-" for number in ("started", "stopped", "replaced", "kept")),
            _why(group["reasons"]),
        )
        for group in groups
    ]
    print_table(columns, rows, empty="no groups")


def _why(reasons: list[str]) -> str:
    shown = reasons[:_WHY_LENGTH]
    more = len(reasons) - len(shown)
    return "; ".join([*shown, *([f"{more} more"] if more else [])]) or "nothing has changed"


def _processes(number: int) -> str:
    return count(number, "process", "processes")
