"""The prompts in documents and examples are ones that the model that ships with Atelier can draw."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from atelier_tiny import WEIGHTS
from tests.conftest import ROOT

VOCABULARY = frozenset(json.loads((WEIGHTS / "atelier.json").read_text())["vocabulary"].split())
DOCUMENTS = sorted(
    [
        ROOT / "README.md",
        ROOT / "models" / "tiny" / "README.md",
        ROOT / "docs" / "engines" / "diffusion.md",  # the other pages there name their engines
        *(page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "engines"),
        *(ROOT / "examples").rglob("*.py"),
    ]
)
_PROMPT = re.compile(
    r"""(?:generate|plan|stream|submit|pipeline)\(?\s*"([^"]+)"|prompt"?\s*[:=]\s*"([^"]+)\""""
)
_OTHER = re.compile(
    r"""--engine (?!tiny)|"engine": ?"(?!tiny)|engine="(?!tiny)|audio|--duration""", re.IGNORECASE
)
"""Marks of a task for another engine, or for audio."""


def prompts_in(text: str) -> Iterator[str]:
    """The prompts of image tasks that a server without a configuration would give to tiny."""
    for line in text.splitlines():
        if not _OTHER.search(line):
            yield from (image or keyword for image, keyword in _PROMPT.findall(line))


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_prompt_can_be_drawn(page: object) -> None:
    """Its words are those that the model was trained with."""
    assert isinstance(page, type(ROOT))
    unknown = {
        prompt: words
        for prompt in prompts_in(page.read_text())
        if (
            words := [
                word for word in re.findall("[a-z]+", prompt.lower()) if word not in VOCABULARY
            ]
        )
    }
    assert unknown == {}


def test_prompts_are_found() -> None:
    """In commands, programs and JSON; not those of other engines."""
    text = (
        'atelier generate "a cat"\nclient.generate("a dog", seed=1)\nImageTask(prompt="a cow")\n'
        '{"image":{"prompt":"a pig"}}\natelier generate "x" --engine sketch\n'
    )
    assert list(prompts_in(text)) == ["a cat", "a dog", "a cow", "a pig"]


def test_the_vocabulary_is_that_of_the_training_captions() -> None:
    """`atelier.json` has the words that the recipe draws captions from."""
    program = "from recipe.vocabulary import known_words; print(*known_words())"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT / "models" / "tiny",
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert set(ended.stdout.split()) == VOCABULARY
