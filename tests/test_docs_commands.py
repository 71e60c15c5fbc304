"""Every command that the pages show is one, with options and values that it takes."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import pytest

from atelier_client.cli.app import atelier
from tests.conftest import ROOT
from tests.documented_commands import PAGES, find_lines

_FILES = ("prompts.csv", "prompt.txt", "edges.png", "photo.png", "small.png", "rain.flac")


def find_commands(page: Path) -> list[str]:
    """The calls of `atelier` on a page, each once."""
    found = [command for line in find_lines(page) for command in line.commands("atelier")]
    return list(dict.fromkeys(found))


SHOWN = [
    pytest.param(command, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, command in enumerate(find_commands(page))
]


@pytest.mark.parametrize("command", SHOWN)
def test_every_command_shown_is_taken(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsed as the shell and click do; nothing is run."""
    monkeypatch.chdir(tmp_path)
    for name in _FILES:
        (tmp_path / name).write_text("x")
    _, *words = shlex.split(command)
    if words[-1] in {"--help", "-h"}:
        words.pop()
    inner: click.Command = atelier
    context = click.Context(atelier, info_name="atelier")
    while isinstance(inner, click.Group):
        name = words.pop(0)
        found = inner.get_command(context, name)
        assert found is not None, name
        inner, context = found, click.Context(found, parent=context, info_name=name)
    inner.make_context(inner.name, words, parent=context.parent)


def test_there_are_commands_to_check() -> None:
    """The page of the command line alone has more than twenty; pages with blocks of YAML have some, too."""
    assert len(find_commands(ROOT / "docs" / "command-line.md")) > 20
    assert len(find_commands(ROOT / "docs" / "engines" / "diffusion.md")) >= 4
    assert find_commands(ROOT / "README.md")
