"""Command lines: arguments in, exit codes and text out. No decisions of their own.

``soniqd``    the daemon's: load the settings, set up logging, be the master. Exit codes of sysexits.h: 0, 70, 75, 78.
``soniqctl``  the operator's. Daemon commands ask the master over its socket; database commands open the database
              themselves, so that they work without a daemon; ``worker`` and ``scheduler`` run without one.
              Exit codes: 0 done, 1 refused or failed, 2 usage, 3 daemon not reachable.

Each command of soniqctl is a module's click command, imported when it is called: ``status`` loads no database driver.
What is printed goes through :mod:`soniqd.cli.render`: JSON with ``--json``, tables on a terminal, aligned plain text
anywhere else, and never a control character that came out of the database. Errors are one line, or one line for each
problem, on stderr.
"""
