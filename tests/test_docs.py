"""The documents say what the code does."""

from __future__ import annotations

import re

import pytest

from atelier_client import errors as client_errors
from atelier_engines import errors as engine_errors
from atelier_server.config.reference import write_reference
from tests.conftest import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def test_the_configuration_reference_is_up_to_date() -> None:
    """docs/configuration.md is what `atelier config reference` prints."""
    assert (ROOT / "docs" / "configuration.md").read_text() == write_reference()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: object) -> None:
    """Relative links and pictures in the documents exist."""
    assert isinstance(page, type(ROOT))
    text = page.read_text()
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) + re.findall(r'src="([^"]+)"', text)
    missing = [
        target
        for target in targets
        if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists()
    ]
    assert missing == []


def test_the_architecture_names_files_that_exist() -> None:
    """The numbered way of a request walks through real files."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = re.findall(r"^ ?\d+  (\S+\.py)", text, re.MULTILINE)
    assert len(named) > 10
    homes = (ROOT / "server" / "atelier_server", ROOT / "engines" / "atelier_engines")
    assert [name for name in named if not any((home / name).exists() for home in homes)] == []


def test_decisions_are_short() -> None:
    """A decision that needs more than forty lines is two, or not yet made."""
    decisions = list((ROOT / "docs" / "decisions").glob("*.md"))
    assert decisions
    assert [page.name for page in decisions if len(page.read_text().splitlines()) > 40] == []


def test_decisions_are_numbered() -> None:
    """From 1 on, each number once, in the name of the file and in its title."""
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    names = [int(page.name[:4]) for page in decisions]
    titles = [int(page.read_text().split(".")[0].removeprefix("# ")) for page in decisions]
    assert names == titles == list(range(1, len(decisions) + 1))


def test_the_names_of_errors_in_other_programs_stand_beside_ours() -> None:
    """Each of our names is a class, and each reason is one of the table above."""
    page = (ROOT / "docs" / "errors.md").read_text()
    above, _, section = page.partition("## Names in other programs")
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| `")]
    assert len(rows) == 4
    for _, engine, client, reasons in rows:
        for module, cell in ((engine_errors, engine), (client_errors, client)):
            for name in re.findall(r"`(\w+)`", cell):
                assert issubclass(getattr(module, name), Exception)
        assert all(f"`{reason}`" in above for reason in re.findall(r"`(\w+)`", reasons))
