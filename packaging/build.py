"""Build the Debian package: stage soniqd with its dependencies for every supported Python, and call nfpm.

    .venv/bin/python packaging/build.py           dist/soniqd_VERSION_ARCH.deb
    .venv/bin/python packaging/build.py --lock    packaging/requirements.lock, from the newest releases

It runs in a working copy of git, with binutils and the tools of the dependency group "packaging" (``make deb``).
"""

from __future__ import annotations

import argparse
import filecmp
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "packaging/requirements.lock"
WORK = ROOT / "build/package"
LIB = WORK / "lib"
BIN = Path(sys.executable).parent

# The system's tzdata is newer. The others are for people who work on the dependencies.
LEFT_OUT = (
    ".lock",
    "bin",
    "tzdata",
    "tzdata-*.dist-info",
    "**/__pycache__",
    "**/tests",
    "**/*.pyi",
    "**/*.pyx",
    "**/*.pxd",
)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="build the Debian package")
    parser.add_argument("--lock", action="store_true", help="choose the dependencies' versions anew and leave")
    if parser.parse_args().lock:
        lock()
        return
    shutil.rmtree(WORK, ignore_errors=True)
    for python in PYTHONS:
        install_dependencies(python)
    share_pure_packages()
    share_bundled_libraries()
    strip_debug_symbols()
    install_soniqd()
    write_environment()
    build_package()


def lock() -> None:
    """Pin every dependency with its hashes, for all supported Pythons at once."""
    command = ["pip", "compile", "pyproject.toml", "--generate-hashes", "--universal", "--no-header", "--upgrade"]
    run("uv", *command, "--quiet", "--python-version", PYTHONS[0], "--output-file", str(LOCK))


def install_dependencies(python: str) -> None:
    """Unpack the locked wheels for one Python into a folder of its own."""
    target = abi_folder(python)
    wheels = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--link-mode", "copy"]
    where = ["--python-version", python, "--python-platform", f"{platform.machine()}-manylinux_2_28"]
    run("uv", "pip", "install", "--quiet", *wheels, *where, "--target", str(target), "--requirement", str(LOCK))
    for pattern in LEFT_OUT:
        for path in list(target.glob(pattern)):
            remove(path)


def share_pure_packages() -> None:
    """Move what is the same for all Pythons to one place: what its wheel calls pure, in the same version."""
    first, *others = (abi_folder(python) for python in PYTHONS)
    for info in sorted(first.glob("*.dist-info")):
        pure = "Root-Is-Purelib: true" in (info / "WHEEL").read_text()
        if pure and all((other / info.name).exists() for other in others):
            for name in top_level(info):
                (LIB / "site").mkdir(exist_ok=True)
                shutil.move(first / name, LIB / "site" / name)
                for other in others:
                    remove(other / name)


def share_bundled_libraries() -> None:
    """Keep libpq and its friends once: the binary wheels of psycopg carry the same files for every Python."""
    name = "psycopg_binary.libs"
    shared = LIB / "lib" / name
    for python in PYTHONS:
        bundled = abi_folder(python) / name
        if not shared.exists():
            shared.parent.mkdir(exist_ok=True)
            shutil.move(bundled, shared)
        elif same_files(shared, bundled):
            remove(bundled)
        else:
            continue
        bundled.symlink_to(Path("../../lib") / name)


def strip_debug_symbols() -> None:
    """Take 13 MB off each uvloop. What psycopg bundles was patched in a way that strip would damage."""
    for library in LIB.glob("abi/*/uvloop/*.so"):
        subprocess.run(["strip", "--strip-unneeded", str(library)], check=True)


def install_soniqd() -> None:
    """Build soniqd's own wheel, and unpack it."""
    run("uv", "build", "--quiet", "--wheel", "--out-dir", str(WORK), str(ROOT))
    [wheel] = WORK.glob("soniqd-*.whl")
    with zipfile.ZipFile(wheel) as archive:  # pure Python without data files: what a wheel holds is what is installed
        archive.extractall(LIB / "site")


def write_environment() -> None:
    """Make the folder a virtual environment (PEP 405) of whichever Python the system has.

    The link to the system's interpreter is nfpm's to make. Each Python finds its own site-packages folder, which only
    holds the way to the shared packages and to those compiled for it.
    """
    (LIB / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    for python in PYTHONS:
        packages = LIB / f"lib/python{python}/site-packages"
        packages.mkdir(parents=True)
        (packages / "soniqd.pth").write_text(f"../../../abi/{abi_folder(python).name}\n../../../site\n")


def build_package() -> None:
    """Call nfpm; the commit's time makes the result the same bytes each time."""
    epoch = commit_time()
    for path in [LIB, *LIB.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)
    (ROOT / "dist").mkdir(exist_ok=True)
    configuration = (ROOT / "packaging/nfpm.yaml").read_text() + f"mtime: {datetime.fromtimestamp(epoch, UTC):%FT%TZ}\n"
    (WORK / "nfpm.yaml").write_text(configuration)
    environ = {"SONIQD_VERSION": version(), "SONIQD_ARCH": ARCHITECTURES[platform.machine()]}
    run("nfpm", "package", "--config", str(WORK / "nfpm.yaml"), "--packager", "deb", "--target", "dist/", **environ)


def commit_time() -> int:
    """When the last commit was made."""
    command = ["git", "log", "-1", "--format=%ct"]
    return int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def abi_folder(python: str) -> Path:
    """Where the packages compiled for one Python go."""
    return LIB / "abi" / f"cp{python.replace('.', '')}"


def top_level(info: Path) -> Iterator[str]:
    """Name the files and folders at the top of site-packages that belong to a distribution."""
    names = {line.partition(",")[0].partition("/")[0] for line in (info / "RECORD").read_text().splitlines()}
    return (name for name in sorted(names) if name != ".." and (info.parent / name).exists())


def same_files(one: Path, other: Path) -> bool:
    """Compare two flat folders byte by byte."""
    names = sorted(path.name for path in one.iterdir())
    if names != sorted(path.name for path in other.iterdir()):
        return False
    return filecmp.cmpfiles(one, other, names, shallow=False)[0] == names


def version() -> str:
    """Read soniqd's version."""
    match = re.search(r'__version__ = "(.+)"', (ROOT / "soniqd/version.py").read_text())
    assert match is not None
    return match[1]


def remove(path: Path) -> None:
    """Remove a file, a link or a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def run(tool: str, *arguments: str, **environ: str) -> None:
    """Run one of the environment's tools; its failure is ours."""
    done = subprocess.run([str(BIN / tool), *arguments], cwd=ROOT, env={**os.environ, **environ}, check=False)
    if done.returncode:
        sys.exit(f"cannot build the package: {tool} {arguments[0]} failed")


if __name__ == "__main__":
    main()
