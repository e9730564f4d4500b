"""Settings: TOML, environment and ``.env`` become frozen values, or a list of everything that is wrong.

The daemon's settings (:class:`DaemonSettings`) are merged from these sources, the last one that has a value winning:

1. defaults (soniqd.settings.daemon),
2. soniq.toml, then the files that its ``include`` names, in the order of the patterns and sorted within each,
3. ``.env`` beside soniq.toml (in the working directory if there is no soniq.toml),
4. ``SONIQ_*`` variables of the environment (soniqd.settings.variables lists them),
5. the command line.

In strings of the files ``${NAME}`` is replaced by a variable (of the environment, else of ``.env``) and ``$$`` by a
dollar sign. Relative paths start at the folder of the file that they stand in. ``[database] url_file`` names a file
that holds the url, relative to ``$CREDENTIALS_DIRECTORY`` if that is set.

The library's settings (:class:`SoniqSettings`) come from keyword arguments, ``SONIQ_*``, ``.env`` in the working
directory and defaults; no file in TOML.

No validation library: pydantic read them once, for 10 MiB and some 100 ms in each process that imported it for nothing
else, the master among them. A process of its own that reads for the master would have saved the memory, too, but not
the time. What the classes declare (:mod:`soniqd.settings.fields`) is all that reading, schema and documentation need.

Failure model: nothing is half-loaded. Everything that can be found wrong is found in one pass and raised as one
ConfigurationError whose ``problems`` name file and location, expectation and finding, without passwords.
"""

from soniqd.settings.daemon import (
    DaemonSettings,
    DatabaseTable,
    JobsTable,
    SchedulerTable,
    SoniqdTable,
    SweepTable,
    WorkerGroup,
)
from soniqd.settings.library import SoniqSettings, load_library_settings
from soniqd.settings.load import DEFAULT_PATH, Configuration, load_configuration, load_daemon_settings
from soniqd.settings.transfer import dump_settings, restore_settings

__all__ = [
    "DEFAULT_PATH",
    "Configuration",
    "DaemonSettings",
    "DatabaseTable",
    "JobsTable",
    "SchedulerTable",
    "SoniqSettings",
    "SoniqdTable",
    "SweepTable",
    "WorkerGroup",
    "dump_settings",
    "load_configuration",
    "load_daemon_settings",
    "load_library_settings",
    "restore_settings",
]
