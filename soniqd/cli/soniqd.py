"""The ``soniqd`` command."""

from __future__ import annotations

# argparse, because click would stay in the master's memory for as long as it lives.
import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from soniqd.control.reexec import HANDOVER_VARIABLE, SELF_CHECK_VARIABLE
from soniqd.errors import ConfigurationError, SoniqError
from soniqd.log.redact import redact
from soniqd.settings.daemon import DaemonSettings
from soniqd.settings.host import this_host
from soniqd.settings.load import DEFAULT_PATH, load_daemon_settings
from soniqd.version import __version__

if TYPE_CHECKING:
    from soniqd.supervisor.interpreter import StartedServer

EX_OK = 0
EX_SOFTWARE = 70
EX_TEMPFAIL = 75
EX_CONFIG = 78
"""sysexits.h; systemd's RestartPreventExitStatus=78 keeps a broken configuration from looping."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon, or check its configuration; return the exit code."""
    options = _parse(arguments)
    if HANDOVER_VARIABLE in os.environ:
        return _go_on()
    path = _config_path(options.config)
    if SELF_CHECK_VARIABLE in os.environ:
        return _check_self(path)
    return _start(path, test=options.test)


def _start(path: Path, *, test: bool) -> int:
    try:
        settings = load_daemon_settings(path, environ=os.environ, host=this_host())
        if test:
            return _test(settings, path)
        return _run(settings, path)
    except ConfigurationError as error:
        return _tell(error.problems or (str(error),), EX_CONFIG)
    except SoniqError as error:
        return _tell((str(error),), EX_TEMPFAIL)
    except Exception as error:  # noqa: BLE001  the last boundary: the exit code tells systemd what it was
        return _tell_defect(error)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="soniqd",
        description="Supervise worker and scheduler processes that run background jobs.",
        epilog="Exit codes: 0 ok, 70 internal error, or jobs modules that were not imported in time, "
        "75 temporary failure, 78 configuration error, or jobs modules that cannot be imported.",
    )
    parser.add_argument(
        "-c", "--config", metavar="FILE", type=Path, help=f"configuration, default $SONIQ_CONFIG or {DEFAULT_PATH}"
    )
    parser.add_argument(
        "-t",
        "--test",
        action="store_true",
        help="check the configuration, import the jobs modules, try the database, and exit; a database that does not "
        "answer is a warning, since a daemon would wait for it; one that refuses, or has no tables, is an error (78)",
    )
    parser.add_argument("--version", action="version", version=f"soniqd {__version__}")
    return parser.parse_args(arguments)


def _config_path(given: Path | None) -> Path:
    path = given or Path(os.environ.get("SONIQ_CONFIG") or DEFAULT_PATH)
    if path == DEFAULT_PATH and given is None and not path.exists():
        problem = f"{path}: there is no such file: write one, or name another with -c FILE"
        raise SystemExit(_tell((problem,), EX_CONFIG))
    return path.absolute()


def _test(settings: DaemonSettings, path: Path) -> int:
    from soniqd.supervisor import check  # noqa: PLC0415  not before the settings are known to be good

    findings = check(settings)
    _tell([f"warning: {warning}" for warning in findings.warnings], EX_OK)
    if findings.problems:
        return _tell(findings.problems, EX_CONFIG)
    database = "" if findings.warnings else ", and the database can be used"
    print(f"{path}: the configuration is good, the jobs modules can be imported{database}")  # noqa: T201
    return EX_OK


def _run(settings: DaemonSettings, path: Path) -> int:
    from soniqd.log.setup import configure_logging  # noqa: PLC0415  not before the settings are known to be good
    from soniqd.supervisor import run  # noqa: PLC0415

    early = _fork_early(settings)
    configure_logging(settings.soniqd.log_level, settings.soniqd.log_format)
    return run(settings, path, early=early)


def _fork_early(settings: DaemonSettings) -> StartedServer | None:
    """Fork the first fork server off this process if it is to run in this interpreter, and share memory with it."""
    from soniqd.backends.factory import create_backend  # noqa: PLC0415  as above
    from soniqd.forkserver.early import fork_early  # noqa: PLC0415
    from soniqd.supervisor.interpreter import MASTERS_OWN, StartedServer  # noqa: PLC0415

    if settings.jobs.python not in (None, Path(sys.executable)):
        return None
    create_backend(settings.database.url)  # imports what both need
    early = fork_early(without=MASTERS_OWN)
    return None if early is None else StartedServer(*early)


def _go_on() -> int:
    """Be the next image of a daemon that runs. Configured it was before, so that no error is one of configuration."""
    from soniqd.supervisor import go_on  # noqa: PLC0415  for soniqctl upgrade only

    try:
        return go_on()
    except Exception as error:  # noqa: BLE001  as above
        return _tell_defect(error)


def _check_self(path: Path) -> int:
    from soniqd.supervisor import check_self  # noqa: PLC0415  for soniqctl upgrade only

    return check_self(path)


def _tell_defect(error: Exception) -> int:
    print(redact(traceback.format_exc()), end="", file=sys.stderr)  # noqa: T201
    return _tell((f"internal error: {error!r}",), EX_SOFTWARE)


def _tell(problems: Sequence[str], code: int) -> int:
    for problem in problems:
        print(f"soniqd: {redact(problem)}", file=sys.stderr)  # noqa: T201
    return code


if __name__ == "__main__":
    sys.exit(main())
