"""The command lines that the pages show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LANGUAGES = ("", "sh", "console")


@dataclass(frozen=True, slots=True)
class ShownLine:
    """A line of a block of commands, without its comment; lines that go on are joined."""

    page: Path
    text: str

    def commands(self, program: str) -> list[str]:
        """Its parts that call the program; redirections and pipes end a part."""
        parts = [part.strip() for part in re.split(r"[;&|<>]+", self.text)]
        return [part for part in parts if part.startswith(f"{program} ")]

    def calls(self, program: str) -> bool:
        """Whether it calls the program."""
        return bool(self.commands(program))


def find_lines(page: Path) -> Iterator[ShownLine]:
    """All lines of commands, in the order of the page."""
    for language, block in _FENCE.findall(page.read_text()):
        if language in _LANGUAGES:
            for line in _join(block).splitlines():
                text = re.sub(r"(^|\s)#.*", "", line).strip().removeprefix("$ ")
                yield ShownLine(page, text.removeprefix(".venv/bin/"))


def _join(block: str) -> str:
    """The block with one line for each command: what ends in a backslash or within quotes goes on."""
    joined: list[str] = []
    for line in block.replace("\\\n", " ").splitlines():
        if joined and joined[-1].count("'") % 2:
            joined[-1] += line.strip()
        else:
            joined.append(line)
    return "\n".join(joined)
