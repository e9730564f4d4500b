"""Import jobs modules, find their Soniq instances, bind them to the daemon's database; say what is wrong for people."""

from __future__ import annotations

import importlib
import operator
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from soniqd.app import Soniq
from soniqd.errors import ConfigurationError, JobsModuleError
from soniqd.roles import LoadedJobs
from soniqd.settings.daemon import DaemonSettings


class ImportTimedOut(BaseException):
    """Raised wherever an import is when its time is over; not an Exception, so that modules let it through."""


@dataclass(slots=True)
class _Findings:
    apps: dict[int, Soniq] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    traces: list[str] = field(default_factory=list)
    late: bool = False


def load_jobs(settings: DaemonSettings) -> LoadedJobs:
    """Return what ``[jobs] modules`` declare, bound to the daemon's database.

    Raises JobsModuleError with a problem for each module that cannot be used; its context holds ``traceback``.
    """
    put_first_on_path(settings.jobs.path)
    found = _Findings()
    if not settings.jobs.modules:
        found.problems.append("nothing to run: [jobs] modules names no module")
    for entry in settings.jobs.modules:
        if not found.late:
            _load(entry, found)
    jobs = _bind(tuple(found.apps.values()), settings, found)
    if jobs is None:
        raise JobsModuleError(
            "\n".join(found.problems),
            problems=tuple(found.problems),
            traceback="\n".join(found.traces),
            transient=found.late,
        )
    return jobs


@contextmanager
def importing_within(timeout_s: float) -> Iterator[None]:
    """Raise ImportTimedOut in this thread, which must be the main one, when the block takes longer.

    Code that never returns to the interpreter is not reached by that: somebody else has to end it.
    """

    def give_up(_signum: int, _frame: object) -> None:
        raise ImportTimedOut(f"not done after {timeout_s:g} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def put_first_on_path(folders: Sequence[Path]) -> None:
    """Put folders first on sys.path, in their order, for this process."""
    names = [str(folder) for folder in folders]
    sys.path[:] = names + [entry for entry in sys.path if entry not in names]
    importlib.invalidate_caches()


def _load(entry: str, found: _Findings) -> None:
    name, _, attribute = entry.partition(":")
    try:
        module = importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001  a module may raise anything, SystemExit included
        found.problems.append(f"cannot import {name}: {_reason(name, error)}")
        found.traces.append(_trace(error))
        found.late = isinstance(error, ImportTimedOut)
        return
    try:
        app = _named_app(module, attribute) if attribute else _only_app(module)
    except JobsModuleError as error:
        found.problems.append(f"cannot use {entry}: {error}")
    else:
        found.apps[id(app)] = app


def _named_app(module: ModuleType, attribute: str) -> Soniq:
    try:
        value = operator.attrgetter(attribute)(module)
    except AttributeError as error:
        raise JobsModuleError(str(error)) from error
    if not isinstance(value, Soniq):
        raise JobsModuleError(f"{attribute} is {_kind(value)}, not a soniqd.Soniq")
    return value


def _only_app(module: ModuleType) -> Soniq:
    """Find the one instance among the module's names; the same one under two names is one."""
    names = {id(value): name for name, value in reversed(vars(module).items()) if isinstance(value, Soniq)}
    match sorted(names.values()):
        case [name]:
            app: Soniq = vars(module)[name]
            return app
        case []:
            raise JobsModuleError(f"it has no Soniq instance{_stranger(module)}")
        case several:
            choices = " or ".join(f'"{module.__name__}:{name}"' for name in several)
            raise JobsModuleError(f"it has {len(several)} Soniq instances: say {choices}")


def _stranger(module: ModuleType) -> str:
    """Help somebody who moves over and still imports the other package."""
    for name, value in vars(module).items():
        if type(value).__name__ == "Soniq":
            return f' ({name} is {_kind(value)}: use "from soniqd import Soniq")'
    return ""


def _kind(value: object) -> str:
    return f"a {type(value).__module__}.{type(value).__qualname__}"


def _bind(apps: tuple[Soniq, ...], settings: DaemonSettings, found: _Findings) -> LoadedJobs | None:
    for app in apps:
        try:
            app.bind(settings.database.url, **_app_settings(settings))
        except ConfigurationError as error:
            found.problems.append(str(error))
    if found.problems:
        return None
    try:
        return LoadedJobs.merge(apps)
    except ConfigurationError as error:
        found.problems.extend(error.problems or (str(error),))
        return None


def _app_settings(settings: DaemonSettings) -> dict[str, Any]:
    """What the daemon's settings say about applications that do not say it themselves."""
    return {
        "max_retries": settings.jobs.max_retries,
        "max_crashes": settings.jobs.max_crashes,
        "job_timeout": settings.jobs.timeout,
        "result_ttl": settings.jobs.result_ttl,
        "sync_handler_pool_size": settings.jobs.sync_handler_pool_size,
        "poll_interval": settings.jobs.poll_interval,
        "pool_min_size": settings.database.pool_min_size,
        "pool_max_size": settings.database.pool_max_size,
        "pool_headroom": settings.database.pool_headroom,
    }


def _reason(module: str, error: BaseException) -> str:
    match error:
        case ModuleNotFoundError(name=str(missing)) if module == missing or module.startswith(f"{missing}."):
            searched = ", ".join(entry or "." for entry in sys.path[:4])
            return f"there is no {missing} in {searched}, ...: is its folder in [jobs] path?"
        case SyntaxError():
            return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
        case ImportTimedOut():
            return f"{error}{_place(error.__traceback__)}"
        case SystemExit():
            return f"it left with sys.exit({error.code!r}){_place(error.__traceback__)}"
    return f"{''.join(traceback.format_exception_only(error)).strip()}{_place(error.__traceback__)}"


def _place(trace: TracebackType | None) -> str:
    """The innermost line that is somebody's code, not the import machinery's."""
    frames = [frame for frame in traceback.extract_tb(trace) if not frame.filename.startswith("<frozen ")]
    outside = [frame for frame in frames if frame.filename not in (__file__, importlib.__file__)]
    return f" ({outside[-1].filename}:{outside[-1].lineno})" if outside else ""


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
