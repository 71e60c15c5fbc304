"""House rules that no linter knows."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("server/atelier_server", "engines/atelier_engines", "clients/python/atelier_client")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
REPEATED_STEMS = {"__init__", "capabilities", "config", "engine", "errors"}  # one a package


def calls_in_async_for(tree: ast.AST) -> Iterator[int]:
    """Lines where `async for` runs over a call, so that nobody closes what the call made."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFor | ast.comprehension) and isinstance(node.iter, ast.Call):
            if isinstance(node, ast.comprehension) and not node.is_async:
                continue
            yield node.iter.lineno


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_async_generators_are_closed_by_whoever_consumes_them(path: Path) -> None:
    """`async for` runs over a name that `aclosing` bound, never over a call."""
    assert list(calls_in_async_for(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    """A file has at most 400 lines, a function at most 60."""
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_FILE
    long = [
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION
    ]
    assert long == []


def test_names_are_not_used_again_and_again() -> None:
    """No name of a file or of a public class stands in more than three places, or nobody knows which one is meant."""
    stems = Counter(path.stem for path in SOURCES if path.stem not in REPEATED_STEMS)
    classes = Counter(
        node.name
        for path in SOURCES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in (stems + classes).items() if count > 3] == []
