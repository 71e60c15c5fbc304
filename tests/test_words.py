"""Public documents, messages and names use the field's terms."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.conftest import ROOT

TERMS: Mapping[str, str] = {
    r"pictur(e|es|ed|ing)": "image",
    r"sounds?": "audio",
    r"(re)?paint(s|ed|ing|er)?": "generate, denoise or inpaint",
    r"enlarg(e|es|ed|ing|ement)": "upscale",
    r"abilit(y|ies)": "capabilities",
    r"refusals?": "rejection or error",
    r"shel(f|ves)": "cache",
    r"worn|wears?|wearing": "active, set the adapter",
    r"purse|keeper": "spending cap, provisioner",
    r"nonsense": "invalid response",
    r"obstacles?": "rejection",
    r"ledgers?": "parameter recorder",
    r"mosaics?": "tile stitching",
    r"guards?|guarded": "interceptor or validating",
    r"goodbye": "grace period",
    r"taken up|took up": "claim, start",
    r"in hand": "running",
    r"(rests?|resting) (for|until)": "circuit breaker open",
    r"company": "batch",
}
"""What is not written, as a regular expression of whole words, and the term to use instead."""

PACKAGES = ("server/atelier_server", "engines/atelier_engines", "clients/python/atelier_client")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
CONTRACT = sorted((ROOT / "proto" / "atelier").rglob("*.proto"))
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "models" / "tiny" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
)
_BANNED = re.compile(rf"\b(?:{'|'.join(TERMS)})\b", re.IGNORECASE)
_CODE = re.compile(r"```.*?```|`[^`]*`|\]\([^)]*\)|<[^>]*>", re.DOTALL)


def findings(text: str) -> list[str]:
    """Every banned word in the text, with its line."""
    return [
        f"{text.count(chr(10), 0, found.start()) + 1}: {found[0]} ({term_for(found[0])})"
        for found in _BANNED.finditer(text)
    ]


def term_for(word: str) -> str:
    """What to write instead of the word."""
    return next(term for banned, term in TERMS.items() if re.fullmatch(banned, word, re.IGNORECASE))


def sentences(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Docstrings, messages and names of a module, each with its line; keys of earlier versions keep their names."""
    earlier = {
        part
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "renamed_keys"
        for part in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in earlier:
            continue
        match node:
            case ast.Constant(value=str(text)):
                yield node.lineno, text
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, words_of(name)
            case ast.ClassDef(name=name):
                yield node.lineno, words_of(name)
            case ast.arg(arg=name):
                yield node.lineno, words_of(name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield node.lineno, words_of(name)
            case ast.Assign(targets=[ast.Name(id=name)]):
                yield node.lineno, words_of(name)
            case _:
                pass


def words_of(name: str) -> str:
    """The name with spaces between its words."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_+", " ", name)


@pytest.mark.parametrize("page", PAGES + CONTRACT, ids=lambda page: str(page.relative_to(ROOT)))
def test_documents_use_the_terms(page: Path) -> None:
    """No banned word stands in the prose of a document or of the contract."""
    text = page.read_text()
    prose = (
        text
        if page.suffix == ".proto"
        else _CODE.sub(lambda code: "\n" * code[0].count("\n"), text)
    )
    assert findings(prose) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_uses_the_terms(path: Path) -> None:
    """No banned word stands in a docstring, a message or a name."""
    tree = ast.parse(path.read_text())
    found = [f"{line}: {word}" for line, text in sentences(tree) for word in findings(text)]
    assert found == []


def test_a_banned_word_is_found() -> None:
    """The search finds words in prose and in names, and names the term to use."""
    tree = ast.parse('def enlarged(picture: str) -> None:\n    """Make a sound."""\n')
    found = [word for _, text in sentences(tree) for word in findings(text)]
    assert found == ["1: enlarged (upscale)", "1: picture (image)", "1: sound (audio)"]
