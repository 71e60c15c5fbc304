"""The pages of docs/seed-rows name a place and a test that exist, or later work, in every row."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGES = sorted((ROOT / "docs" / "seed-rows").glob("*.md"))
LATER = {"audio", "compiled runtimes", "callers", "many machines", "clients", "chart"}
"""Work that rows may be left to."""


def rows_of(page: Path) -> Iterator[list[str]]:
    """The cells of each row below the head of the page's table."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("|")]
    assert lines[:2] == ["| row | where | test |", "|---|---|---|"]
    for line in lines[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def has_test(name: str) -> bool:
    """Whether a test of that name, `FILE::FUNCTION`, is in the repository."""
    path, _, function = name.partition("::")
    if not (ROOT / path).is_file():
        return False
    tree = ast.parse((ROOT / path).read_text())
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_row_has_three_cells_and_says_one_thing_once(page: Path) -> None:
    """No cell is empty, and no row is there twice."""
    rows = list(rows_of(page))
    assert rows
    assert [row for row in rows if len(row) != 3 or not all(row)] == []
    names = [row[0] for row in rows]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_row_is_in_a_place_that_exists(page: Path) -> None:
    """The second cell names files of the repository."""
    places = [(row[1], re.findall(r"`([^`]+)`", row[1])) for row in rows_of(page)]
    assert [cell for cell, named in places if not named] == []
    assert [name for _, named in places for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_row_names_tests_that_exist_or_later_work(page: Path) -> None:
    """The third cell has tests of the repository, or the name of later work."""
    for _, _, cell in rows_of(page):
        if cell.startswith("later: "):
            assert cell.removeprefix("later: ") in LATER
        else:
            assert re.fullmatch(r"`[^`]+`(, `[^`]+`)*", cell), cell
            assert [name for name in re.findall(r"`([^`]+)`", cell) if not has_test(name)] == []


def test_every_page_is_in_the_index() -> None:
    """docs/seed-rows.md links to each page."""
    index = (ROOT / "docs" / "seed-rows.md").read_text()
    assert [page.name for page in PAGES if f"(seed-rows/{page.name})" not in index] == []
