"""When two looks at the code on disk are equal, and which part says that they are not."""

from __future__ import annotations

import importlib
import os
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from soniqd.forkserver import fingerprint as module
from soniqd.forkserver.fingerprint import fingerprint

Look = Callable[..., dict[str, str]]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An application: a package with jobs, a lazily imported module and a template; imported."""
    package = tmp_path / "shop"
    (package / "templates").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "jobs.py").write_text("import shop.mail\n")
    (package / "mail.py").touch()
    (package / "lazy.py").touch()
    (package / "templates" / "mail.html").write_text("hello")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("shop.jobs")
    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] in {"shop", "lone", "plugin", "archived"}]:
        del sys.modules[name]


@pytest.fixture
def look(tmp_path: Path) -> Look:
    def fingerprint_later(modules: tuple[str, ...] = ("shop.jobs",), **options: object) -> dict[str, str]:
        """As a generation would that begins to import a while after the last change."""
        return fingerprint(modules, [tmp_path], **{"since_ns": time.time_ns() + 10**9, **options})  # type: ignore[arg-type]

    return fingerprint_later


def differing(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {part for part in before.keys() | after.keys() if before.get(part) != after.get(part)}


@pytest.mark.usefixtures("shop")
def test_what_has_not_changed_is_equal(look: Look):
    before = look()
    assert {"shop", "soniqd", "python"} <= before.keys()
    assert look() == before


@pytest.mark.parametrize("file", ["jobs.py", "lazy.py", "templates/mail.html"])
def test_each_file_of_the_applications_package_counts(shop: Path, look: Look, file: str):
    before = look()
    (shop / file).write_text("# another")
    assert differing(before, look()) == {"shop"}


def test_a_file_replaced_by_one_of_the_same_size_and_time_counts(shop: Path, look: Look):
    before, file = look(), shop / "mail.py"
    was = file.stat()
    replacement = shop / "new"
    replacement.touch()
    os.utime(replacement, ns=(was.st_atime_ns, was.st_mtime_ns))
    replacement.rename(file)
    assert differing(before, look()) == {"shop"}


def test_a_new_and_a_removed_file_count(shop: Path, look: Look):
    before = look()
    (shop / "more.py").touch()
    more = look()
    assert differing(before, more) == {"shop"}
    (shop / "lazy.py").unlink()
    assert differing(more, look()) == {"shop"}


def test_compiled_files_and_hidden_folders_are_not_code(shop: Path, look: Look):
    before = look()
    for folder in ("__pycache__", ".git"):
        (shop / folder).mkdir(exist_ok=True)
        (shop / folder / "x.cpython-311.pyc").write_text(folder)
    assert look() == before


def test_the_daemons_own_database_is_not_code(shop: Path, look: Look):
    (shop / "jobs.db").touch()
    ignored = frozenset({str(shop / "jobs.db")})
    before = look(ignored=ignored)
    (shop / "jobs.db").write_text("rows")
    assert look(ignored=ignored) == before
    assert look() != look(ignored=ignored)


def test_python_files_beside_a_lone_jobs_module_count(shop: Path, look: Look, tmp_path: Path):
    (tmp_path / "lone.py").touch()
    (tmp_path / "neighbour.py").touch()
    importlib.import_module("lone")
    before = look(("lone",))
    (tmp_path / "notes.txt").touch()
    assert look(("lone",)) == before
    (tmp_path / "neighbour.py").write_text("# another")
    assert differing(before, look(("lone",))) == {"[jobs] path"}
    assert shop.exists()


def test_an_installed_package_counts_by_its_imported_files_and_by_its_folder(
    shop: Path, look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    installed = tmp_path / "site-packages"
    (installed / "plugin").mkdir(parents=True)
    (installed / "plugin" / "__init__.py").touch()
    (installed / "plugin" / "data.txt").touch()
    monkeypatch.syspath_prepend(installed)
    importlib.import_module("plugin")
    before = look()
    (installed / "plugin" / "data.txt").write_text("other")
    assert look() == before
    (installed / "plugin" / "__init__.py").write_text("# another")
    assert differing(before, look()) == {"plugin"}
    before = look()
    (installed / "another-1.0.dist-info").mkdir()
    assert differing(before, look()) == {"installed packages"}
    assert shop.exists()


def test_jobs_in_an_installed_package_count_with_all_of_its_files(
    shop: Path, look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    installed = tmp_path / "site-packages"
    (installed / "plugin").mkdir(parents=True)
    (installed / "plugin" / "__init__.py").touch()
    (installed / "plugin" / "lazy.py").touch()
    monkeypatch.syspath_prepend(installed)
    importlib.import_module("plugin")
    before = look(("plugin",))
    (installed / "plugin" / "lazy.py").write_text("# another")
    assert differing(before, look(("plugin",))) == {"plugin"}
    assert shop.exists()


@pytest.mark.usefixtures("shop")
def test_a_module_in_an_archive_counts_by_the_archive(look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archive = tmp_path / "bundle.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("archived.py", "")
    monkeypatch.syspath_prepend(archive)
    importlib.import_module("archived")
    before = look()
    with zipfile.ZipFile(archive, "a") as bundle:
        bundle.writestr("more.py", "")
    assert differing(before, look()) == {"archived"}


def test_code_that_changed_while_it_was_imported_equals_nothing(shop: Path, look: Look):
    since_ns = time.time_ns()
    (shop / "jobs.py").write_text("# another")
    first = look(since_ns=since_ns)
    assert differing(first, look(since_ns=since_ns)) == {"shop"}


@pytest.mark.usefixtures("shop")
def test_more_files_than_can_be_looked_at_equal_nothing(look: Look, monkeypatch: pytest.MonkeyPatch):
    before = look()
    monkeypatch.setattr(module, "MAX_FILES", 4)
    assert "shop" in differing(before, look())
    assert "shop" in differing(look(), look())


def test_links_in_a_circle_come_to_an_end(shop: Path, look: Look):
    (shop / "again").symlink_to(shop)
    assert look() == look()
