"""What the code on disk looks like, so that two generations of the same code can be told from those of different code.

Fingerprints have parts: one for each imported package or module outside of the standard library, one for the folders
of ``[jobs] path``, for the folders that packages are installed into, and for the interpreter. A part sums up path,
size, time of change and inode of its files, without reading one:

* of an imported package that is not installed (a folder of the application), and of the packages that the jobs modules
  and soniqd itself belong to: every file, templates and data included;
* of any other package: the files that were imported. An update of it changes the time of the folder that it is
  installed into;
* of ``[jobs] path`` and of a folder that holds a jobs module of one file: the Python files directly in it.

A part whose files changed while they were being imported, or that has too many files, equals nothing: rather is
something replaced needlessly than old code kept. What is not seen is data elsewhere that code reads when it is
imported; ``soniqctl reload --all`` is for that.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import sys
import sysconfig
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import soniqd

MAX_FILES = 20_000
"""About a fifth of a second of stat(2), for a folder of the application that nobody meant to be a package."""
_CLOCK_GRAIN_NS = 20_000_000
"""File systems stamp changes with the clock of the last timer interrupt."""
_INSTALLED = ("site-packages", "dist-packages")
_NEVER_CODE = (".pyc", ".pyo")

PATH = "[jobs] path"
INSTALLED = "installed packages"
PYTHON = "python"
_DIGITS = 12


@dataclass(slots=True)
class _Part:
    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    """Entered with all that is below them."""


def fingerprint(
    jobs_modules: Iterable[str],
    folders: Iterable[Path],
    *,
    since_ns: int,
    ignored: frozenset[str] = frozenset(),
) -> dict[str, str]:
    """Return a digest for each part of what this process has imported.

    ``jobs_modules`` are names from [jobs] modules, ``folders`` are [jobs] path; ``since_ns`` is when importing began
    (time.time_ns): what changed since equals nothing. ``ignored`` are files that are written to all the time.
    """
    names = [entry.partition(":")[0] for entry in jobs_modules]
    parts = _imported({*(name.partition(".")[0] for name in names), soniqd.__name__})
    parts[PATH] = _Part(files=set(_python_files([*map(str, folders), *_folders_of_lone_modules(names)])))
    parts[INSTALLED] = _Part(files=set(_installation_folders()))
    parts[PYTHON] = _Part(files={os.path.realpath(sys.executable), sysconfig.get_path("stdlib")})
    return {name: _digest(part, since_ns, ignored) for name, part in sorted(parts.items()) if part.files | part.folders}


def _imported(whole: set[str]) -> dict[str, _Part]:
    """Sort the files of imported modules by package; the folders of those in ``whole`` count in any case."""
    parts: dict[str, _Part] = {}
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and not _is_standard(file):
            parts.setdefault(top, _Part()).files.add(file)
        if name == top and (folders := [folder for folder in _own_folders(module) if _counts(folder, top in whole)]):
            parts.setdefault(top, _Part()).folders.update(folders)
    return parts


def _own_folders(module: ModuleType) -> list[str]:
    """A package's folders: several for a namespace package."""
    try:
        return [str(folder) for folder in module.__path__]
    except Exception:  # noqa: BLE001  a stand-in for a module may do anything when it is looked at
        return []


def _counts(folder: str, whole: bool) -> bool:  # noqa: FBT001  private
    return not _is_standard(folder) and (whole or not _is_installed(folder))


def _is_installed(path: str) -> bool:
    return any(f"/{name}/" in f"{path}/" for name in _INSTALLED)


def _is_standard(path: str) -> bool:
    return path.startswith(_standard_folders()) and not _is_installed(path)


@functools.cache
def _standard_folders() -> tuple[str, ...]:
    return tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib"))


def _folders_of_lone_modules(names: Iterable[str]) -> Iterator[str]:
    """Yield the folders of jobs modules of one file, where their neighbours are likely to be; not of installed ones."""
    for name in names:
        file = getattr(sys.modules.get(name), "__file__", None)
        if "." not in name and isinstance(file, str) and not _is_installed(file) and Path(file).stem == name:
            yield os.path.dirname(file)  # noqa: PTH120  as the module says it, not normalised


def _python_files(folders: Iterable[str]) -> Iterator[str]:
    for folder in folders:
        try:
            yield from (entry.path for entry in os.scandir(folder) if entry.name.endswith(".py"))
        except OSError:  # a folder of sys.path may be missing
            continue


def _installation_folders() -> Iterator[str]:
    """Yield the folders whose change tells that a package was installed, updated or removed."""
    return (entry for entry in sys.path if os.path.basename(entry) in _INSTALLED)  # noqa: PTH119  strings all along


def _digest(part: _Part, since_ns: int, ignored: frozenset[str]) -> str:
    digest = hashlib.sha256()
    count = 0
    for path in _all_files(part):
        if path in ignored or path.endswith(_NEVER_CODE):
            continue
        count += 1
        status = _status(path)
        if count > MAX_FILES or (status is not None and status.st_ctime_ns > since_ns - _CLOCK_GRAIN_NS):
            return uuid.uuid4().hex[:_DIGITS]
        seen = None if status is None else (status.st_size, status.st_mtime_ns, status.st_ino)
        digest.update(f"{path}\0{seen}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:_DIGITS]


def _all_files(part: _Part) -> list[str]:
    """List each file once, in an order that depends on nothing but the names, not on which of them were imported."""
    return sorted({*part.files, *itertools.islice(_files_below(part.folders), MAX_FILES + 1)})


def _files_below(folders: Iterable[str]) -> Iterator[str]:
    left = sorted(folders, reverse=True)
    while left:
        found = _entries(left.pop())
        yield from (entry.path for entry in found if _is_file(entry) and not entry.path.endswith(_NEVER_CODE))
        left += [entry.path for entry in reversed(found) if _is_own_folder(entry)]


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError:
        return []


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Sockets and pipes are no code; a link counts as what it points to."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _is_own_folder(entry: os.DirEntry[str]) -> bool:
    """Hidden folders are a version control's or a tool's; a link to a folder may lead anywhere, also in a circle."""
    return entry.is_dir(follow_symlinks=False) and entry.name != "__pycache__" and not entry.name.startswith(".")


def _status(path: str) -> os.stat_result | None:
    """Look at a file; for a module in a zip archive, at the archive."""
    while True:
        try:
            return os.stat(path)  # noqa: PTH116  thousands of them
        except NotADirectoryError:
            path = os.path.dirname(path)  # noqa: PTH120
        except OSError:
            return None
