"""The README's code blocks, for tests that run them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"

_BLOCK = re.compile(r"^```(?P<language>\w+)(?: title=(?P<title>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; ``title`` is the file that it shows, if it shows one."""

    language: str
    title: str | None
    text: str

    @property
    def commands(self) -> list[str]:
        """What a console block tells to type."""
        return [line.removeprefix("$ ") for line in self.text.splitlines() if line.startswith("$ ")]


def section(heading: str) -> str:
    """The text of one second-level section."""
    return README.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def blocks(heading: str) -> list[Block]:
    """The fenced blocks of one section, in order."""
    return [Block(match["language"], match["title"], match["text"]) for match in _BLOCK.finditer(section(heading))]
