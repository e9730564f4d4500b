"""The words for each finding of :mod:`soniqd.policy.doctor`, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from soniqd.cli.render import Tone
from soniqd.cli.wording import count, duration, size
from soniqd.policy.doctor import Finding

Facts = Mapping[str, Any]
Words = tuple[str, tuple[str, ...]]
"""A sentence, and what to do."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A finding in words."""

    code: str
    severity: str
    summary: str
    advice: tuple[str, ...]
    facts: dict[str, Any]

    @property
    def tone(self) -> Tone:
        return "bad" if self.severity == "problem" else "warn"


def word(finding: Finding) -> Diagnosis:
    """Put a finding into words."""
    summary, advice = WORDS[finding.code](finding.facts)
    return Diagnosis(finding.code, finding.severity, summary, advice, finding.facts)


def _migrations_pending(facts: Facts) -> Words:
    return f"the database lacks {', '.join(facts['pending'])}", ("soniqctl setup",)


def _table_autovacuum_off(facts: Facts) -> Words:
    return f"autovacuum is off for {facts['table']}: dead rows stay, and claims get slower with each job", (
        f"ALTER TABLE {facts['table']} RESET (autovacuum_enabled); (and track_counts must be on)",
    )


def _autovacuum_off(_: Facts) -> Words:
    return "autovacuum is off on this server: dead rows stay, and claims get slower with each job", (
        "set autovacuum = on and track_counts = on in postgresql.conf, then: SELECT pg_reload_conf();",
    )


def _vacuum_behind(facts: Facts) -> Words:
    ago = facts["vacuumed_ago_s"]
    last = "it was never vacuumed" if ago is None else f"the last vacuum was {duration(ago)} ago"
    now = ", one is under way" if facts["vacuuming"] else ""
    summary = (
        f"{facts['table']} has {facts['dead_rows']} dead rows, autovacuum should start at {facts['vacuum_at']}: "
        f"{last}{now}"
    )
    return summary, (
        "if something holds the horizon (listed below, if so), end that first: vacuum cannot remove what it may see",
        f"otherwise: VACUUM {facts['table']}; and more autovacuum_max_workers if that helps only for a while",
    )


def _table_bloated(facts: Facts) -> Words:
    name = facts["name"]
    return f"{name} takes {size(facts['bytes'])} for rows that need about {size(facts['wanted_bytes'])}", (
        "the space is used again by new rows: nothing has to be done if this came of a backlog that is gone now",
        f"to give it back, in a quiet moment, since it locks the table: VACUUM (FULL, ANALYZE) {name};",
    )


def _index_bloated(facts: Facts) -> Words:
    summary = (
        f"the index {facts['name']} takes {size(facts['bytes'])} for entries that need about "
        f"{size(facts['wanted_bytes'])}"
    )
    return summary, (f"REINDEX INDEX CONCURRENTLY {facts['name']}; (workers may go on meanwhile)",)


def _index_missing(facts: Facts) -> Words:
    return f"the index {facts['index']} of {facts['table']} is missing: somebody has dropped it", (
        str(facts["definition"]),
    )


def _index_invalid(facts: Facts) -> Words:
    name = facts["index"]
    summary = f"the index {name} of {facts['table']} is not valid: making it was interrupted, and nothing uses it"
    if facts["ours"]:
        return summary, (f"REINDEX INDEX CONCURRENTLY {name};",)
    return summary, (f"DROP INDEX CONCURRENTLY {name}; (it costs every job an entry for nothing)",)


def _index_unused(facts: Facts) -> Words:
    name = facts["index"]
    summary = f"the index {name} of {facts['table']} ({size(facts['bytes'])}) is not soniqd's, and nothing has read it"
    return summary, (f"it costs every job an entry; unless somebody needs it: DROP INDEX CONCURRENTLY {name};",)


def _horizon_held(facts: Facts) -> Words:
    return f"{_holder(facts)} keeps dead rows from being removed{_since(facts)}: claims get slower with each job", (
        _release(facts),
    )


def _holder(facts: Facts) -> str:
    kind, name = facts["kind"], facts["name"]
    who = " ".join(f"{label} {facts[key]}," for label, key in _WHO if facts[key])
    match kind:
        case "transaction":
            query = f' (last statement: "{facts["query"]}")' if facts["query"] else ""
            return f"a transaction of pid {name}, {who}{query}".removesuffix(",").replace(", (", " (")
        case "standby":
            return f"a standby with hot_standby_feedback, pid {name}, {who}".removesuffix(", ").removesuffix(",")
        case _:
            return f'the {kind} "{name}"'


_WHO = (("application", "application"), ("user", "user"), ("client", "client"), ("state", "state"))


def _since(facts: Facts) -> str:
    if facts["age_s"] is not None:
        return f" for {duration(facts['age_s'])}"
    return f" for {count(facts['age_transactions'], 'transaction')}"


def _release(facts: Facts) -> str:
    name = facts["name"].replace("'", "''")
    match facts["kind"]:
        case "transaction":
            end = f"let its program commit, or: SELECT pg_terminate_backend({name});"
            return f"{end} idle_in_transaction_session_timeout of that role keeps it from happening again"
        case "standby":
            return "end the long query on the standby, or set hot_standby_feedback = off there"
        case "prepared transaction":
            return f"COMMIT PREPARED '{name}'; or ROLLBACK PREPARED '{name}';"
        case _:
            return f"let its reader catch up, or, if there is none any more: SELECT pg_drop_replication_slot('{name}');"


def _slot_idle(facts: Facts) -> Words:
    name = facts["slot"]
    return f'nobody reads the replication slot "{name}": the server keeps {size(facts["kept_bytes"])} of log for it', (
        f"start its reader, or: SELECT pg_drop_replication_slot('{name}');",
    )


def _connections_short(facts: Facts) -> Words:
    return str(facts["problem"]), (
        "lower processes, concurrency or [database] pool_max_size, or raise max_connections of the server",
        "soniqctl config schema tells what they count",
    )


def _connections_tight(facts: Facts) -> Words:
    summary = (
        f"the daemon may open {count(facts['needed'], 'connection')}, but others use {facts['others']} of the "
        f"{facts['usable']} that the server allows: {facts['usable'] - facts['others']} are left"
    )
    return summary, ("lower processes, concurrency or [database] pool_max_size, or raise max_connections",)


def _connections_nearly_used_up(facts: Facts) -> Words:
    return f"{facts['used']} of {facts['usable']} connections are in use", (
        "see who holds them below; raise max_connections, or put a pooler before those who hold many",
    )


def _not_durable(facts: Facts) -> Words:
    return f"{facts['setting']} is off on this server: a crash of its host may destroy the database, jobs included", (
        f"set {facts['setting']} = on in postgresql.conf, unless every job may be lost",
    )


def _commits_not_durable(_: Facts) -> Words:
    return "synchronous_commit is off: a crash of the server forgets jobs that were stored or done moments before", (
        "set it to on for the roles of producers and workers, unless jobs may be lost and done twice",
    )


def _wraparound_near(facts: Facts) -> Words:
    return f"the oldest row was frozen {facts['xid_age']} transactions ago: the server stops writing at 2 billion", (
        "end what holds the horizon, then: VACUUM (FREEZE); in this database",
    )


def _not_listening(facts: Facts) -> Words:
    if facts["pooled"]:
        return "notifications do not arrive: a pooler in transaction mode is in between, so soniqd polls instead", (
            "jobs start up to a second later; a direct connection, or one in session mode, lets them start at once",
        )
    return "notifications do not arrive, so soniqd polls for jobs instead", (
        "does something between here and the server hold connections apart? jobs start up to a second later",
    )


def _notifications_pile_up(facts: Facts) -> Words:
    return f"the server's queue of notifications is {100 * facts['share']:.0f} % full: a listener does not read", (
        "a session that has said LISTEN is in a long transaction: end it (SELECT * FROM pg_stat_activity)",
    )


def _clock_off(facts: Facts) -> Words:
    ahead_s = facts["ahead_s"]
    order = "ahead of" if ahead_s > 0 else "behind"
    return f"the database's clock is {duration(abs(ahead_s))} {order} this host's", (
        "let both follow a time server: what is due is decided by the database's clock, logs are stamped by this one's",
    )


def _file_corrupt(facts: Facts) -> Words:
    return f"the file is damaged: {'; '.join(facts['found'])}", (
        "stop soniqd, keep a copy of the file and its -wal, then: sqlite3 FILE .recover | sqlite3 NEW",
    )


def _file_on_network(facts: Facts) -> Words:
    return f"the file is on a network file system ({facts['file_system']}), where SQLite's locks do not hold", (
        "move it to a local disk, or use PostgreSQL if several hosts share the jobs",
    )


def _file_not_wal(facts: Facts) -> Words:
    return f"the journal mode is {facts['journal_mode']}: readers and writers wait for each other", (
        "soniqd sets it to wal when it opens the file; if it stays so, the file system or another program prevents it",
    )


def _disk_full(facts: Facts) -> Words:
    return f"only {size(facts['free_bytes'])} are free on the disk of the file", ("make room: jobs are refused else",)


def _wal_large(facts: Facts) -> Words:
    return f"{size(facts['wal_bytes'])} of changes wait to be copied into the file: a reader holds them back", (
        "end the program that keeps a long reading transaction on the file open",
    )


def _file_mostly_free(facts: Facts) -> Words:
    return f"{size(facts['free_bytes'])} of the file's {size(facts['bytes'])} are free", (
        "new jobs use them again; to give them back, with soniqd stopped: sqlite3 FILE VACUUM",
    )


def _not_woken(_: Facts) -> Words:
    return "the folder for wake-ups beside the file cannot be used, so soniqd polls for jobs instead", (
        "make the folder of the file writable for the users that run soniqd and enqueue",
    )


def _check_unfinished(facts: Facts) -> Words:
    return f"the file ({size(facts['bytes'])}) was too large to be checked for damage in time", (
        "sqlite3 FILE 'PRAGMA quick_check' takes as long as it takes",
    )


WORDS: dict[str, Callable[[Facts], Words]] = {
    "autovacuum_off": _autovacuum_off,
    "check_unfinished": _check_unfinished,
    "clock_off": _clock_off,
    "commits_not_durable": _commits_not_durable,
    "connections_nearly_used_up": _connections_nearly_used_up,
    "connections_short": _connections_short,
    "connections_tight": _connections_tight,
    "disk_full": _disk_full,
    "file_corrupt": _file_corrupt,
    "file_mostly_free": _file_mostly_free,
    "file_not_wal": _file_not_wal,
    "file_on_network": _file_on_network,
    "horizon_held": _horizon_held,
    "index_bloated": _index_bloated,
    "index_invalid": _index_invalid,
    "index_missing": _index_missing,
    "index_unused": _index_unused,
    "migrations_pending": _migrations_pending,
    "not_durable": _not_durable,
    "not_listening": _not_listening,
    "not_woken": _not_woken,
    "notifications_pile_up": _notifications_pile_up,
    "slot_idle": _slot_idle,
    "table_autovacuum_off": _table_autovacuum_off,
    "table_bloated": _table_bloated,
    "vacuum_behind": _vacuum_behind,
    "wal_large": _wal_large,
    "wraparound_near": _wraparound_near,
}
