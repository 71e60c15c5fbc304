"""Every example in the pages about engines and workflows is valid."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from atelier_engines import registry
from atelier_engines.workflows.bindings import Bindings
from atelier_server.config.engine_settings import EngineSettings
from tests.conftest import ROOT

PAGES = sorted([*(ROOT / "docs" / "engines").glob("*.md"), ROOT / "docs" / "workflows.md"])


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_configured_engine_is_valid(page: Path) -> None:
    """With the settings of its type, renamed keys included."""
    examples = [yaml.safe_load(block) for block in blocks(page, "yaml")]
    engines = [
        engine
        for example in examples
        for engine in example.get("engines", {}).values()
        if engine is not None
    ]
    assert engines
    for engine in engines:
        own = {key: engine[key] for key in engine.keys() - EngineSettings.model_fields.keys()}
        registry.load(engine["type"]).config.model_validate(own)


def test_every_example_of_bindings_is_valid() -> None:
    """A whole file, and the two kinds of LoRA bindings."""
    whole, *parts = blocks(ROOT / "docs" / "workflows.md", "json")
    bindings = json.loads(whole)
    Bindings.model_validate(bindings)
    for part in parts:
        Bindings.model_validate(bindings | json.loads(f"{{{part}}}"))
    assert len(parts) == 2
