"""A copy of soniqd for one test, which can be upgraded, broken and held up while a daemon runs from it."""

from __future__ import annotations

import shutil
from pathlib import Path

import soniqd


class Installation:
    """The package in a folder of its own. A daemon with :attr:`environ` runs from it, and so do its children."""

    def __init__(self, folder: Path) -> None:
        self.package = folder / "soniqd"
        shutil.copytree(Path(soniqd.__file__).parent, self.package)

    @property
    def environ(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.package.parent)}

    def replace(self, file: str, old: str, new: str) -> None:
        """Change the text of a module as an upgrade does."""
        path = self.package / file
        source = path.read_text()
        assert source.count(old) == 1, f"{old!r} is {source.count(old)} times in {file}"
        self.write(file, source.replace(old, new))

    def append(self, file: str, text: str) -> None:
        """Add text to a module."""
        self.write(file, f"{(self.package / file).read_text()}\n{text}\n")

    def write(self, file: str, source: str) -> None:
        """Replace a module; its compiled form is dropped, since times of files are too coarse to tell."""
        path = self.package / file
        path.write_text(source)
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()

    def set_version(self, version: str) -> None:
        """Let it be another release."""
        self.write("version.py", f'"""The version."""\n\n__version__ = "{version}"\n')

    def on_takeover(self, code: str) -> None:
        """Run code as the very first of what the next image does."""
        body = "\n".join(f"    {line}" for line in code.splitlines())
        self.append("version.py", f"import os as _os\nif 'SONIQD_HANDOVER' in _os.environ:\n{body}")
