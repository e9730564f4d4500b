"""From the master's first packet to a process that is ready to fork."""

from __future__ import annotations

import json
import platform
import sys
import time
import traceback
from dataclasses import dataclass

from soniqd.control.fork import PROTOCOL, Boot, Booted, BootFailed, decode
from soniqd.errors import ConfigurationError, ControlError
from soniqd.forkserver import inspection
from soniqd.forkserver.fingerprint import fingerprint
from soniqd.forkserver.loading import importing_within, load_jobs
from soniqd.forkserver.sharing import prepare_sharing
from soniqd.log import catalogue, emit
from soniqd.log.redact import redact
from soniqd.log.setup import configure_logging
from soniqd.roles import LoadedJobs, preload
from soniqd.settings import restore_settings
from soniqd.settings.daemon import DaemonSettings
from soniqd.version import __version__


@dataclass(frozen=True, slots=True)
class Generation:
    """What every child of this process starts from."""

    number: int
    settings: DaemonSettings
    jobs: LoadedJobs
    threads: tuple[str, ...]
    import_s: float
    code: dict[str, str]

    def booted(self) -> Booted:
        """Describe it to the master."""
        return Booted(
            version=__version__,
            python=f"{platform.python_version()} ({sys.executable})",
            tasks=self.jobs.tasks.names(),
            schedules=tuple(spec.name for spec in self.jobs.schedules),
            threads=self.threads,
            import_s=self.import_s,
            code=self.code,
        )


def read_boot(packet: bytes) -> Boot:
    """Read the first packet; raises ConfigurationError, with what to install, for a daemon of another release."""
    _check_release(packet)
    message = decode(packet)
    if not isinstance(message, Boot):
        raise ControlError(f"cannot boot from {type(message).__name__}: the first packet has to be Boot")
    return message


def boot(message: Boot) -> Generation:
    """Import and bind the jobs, then make this process fit for forking; raises ConfigurationError."""
    settings = restore_settings(message.settings)
    configure_logging(
        settings.soniqd.log_level, settings.soniqd.log_format, slot=f"fork server gen {message.generation}"
    )
    descriptors = inspection.open_descriptors()
    started, since_ns = time.monotonic(), time.time_ns()
    preload(settings)
    with importing_within(settings.jobs.import_timeout):
        jobs = load_jobs(settings)
    import_s = time.monotonic() - started
    code = fingerprint(settings.jobs.modules, settings.jobs.path, since_ns=since_ns, ignored=_database_files(settings))
    _warn_of_shared(inspection.shared_descriptors(descriptors, inspection.open_descriptors()), message.generation)
    # The collector is off while modules are imported (see the server): what they left is removed now.
    prepare_sharing()
    return Generation(message.generation, settings, jobs, inspection.running_threads(), import_s, code)


def boot_failed(error: Exception) -> BootFailed:
    """Put an error into words for people."""
    problems = getattr(error, "problems", ()) or (str(error),)
    trace = str(getattr(error, "context", {}).get("traceback") or "")
    if not isinstance(error, ConfigurationError):
        trace = "".join(traceback.format_exception(error))
    return BootFailed(
        problems=tuple(redact(problem) for problem in problems),
        traceback=redact(trace),
        version=__version__,
        transient=bool(getattr(error, "context", {}).get("transient")),
    )


def _check_release(packet: bytes) -> None:
    """Compare releases before anything else of the packet is believed: another one may have other fields."""
    try:
        fields = json.loads(packet)
        protocol, version = fields["protocol"], fields["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ControlError(f"cannot read the daemon's first packet: {error}") from error
    if (protocol, version) != (PROTOCOL, __version__):
        raise ConfigurationError(
            f"the daemon is soniqd {version} (fork protocol {protocol}), but {sys.executable} has soniqd {__version__} "
            f"(fork protocol {PROTOCOL}): install the daemon's release there with "
            f'"{sys.executable} -m pip install soniqd=={version}"'
        )


def _database_files(settings: DaemonSettings) -> frozenset[str]:
    """An embedded database in a folder of the application changes all the time, and is no code."""
    if settings.database.url.startswith("postgres"):
        return frozenset()
    path = settings.database.url.removeprefix("sqlite:///")
    return frozenset(f"{path}{ending}" for ending in ("", "-wal", "-shm", "-journal"))


def _warn_of_shared(descriptors: tuple[str, ...], generation: int) -> None:
    if descriptors:
        emit(catalogue.DESCRIPTORS_SHARED, generation=generation, descriptors=", ".join(descriptors))
