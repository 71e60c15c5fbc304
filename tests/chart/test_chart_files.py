"""The files of the chart say the same: values, their schema, the README, the server's settings, the golden renders."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel, SecretStr

from atelier_engines import registry
from atelier_engines.errors import EngineError
from atelier_server.config.settings import Settings
from tests.chart.charts import CHART, EXAMPLES, GOLDEN, Helm, needs_helm
from tests.chart.write_golden import render_example
from tests.conftest import ROOT


def test_readme_and_schema_are_up_to_date() -> None:
    """Both are written from values.yaml and from the server's settings."""
    script = ROOT / "scripts" / "write_chart_files.py"
    ended = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)  # noqa: PLW1510 - the assertion checks it
    assert ended.returncode == 0, ended.stderr


@needs_helm
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_render_as_before(helm: Helm, name: str) -> None:
    """What an example renders is kept in golden/; a change is reviewed there."""
    golden = (GOLDEN / f"{name}.yaml").read_text()
    assert golden == render_example(helm, name), "`make chart-files` writes it anew"


def find_secrets(model: type[BaseModel]) -> Iterator[str]:
    """Names of fields that hold secrets, in this model and those in it."""
    for name, field in model.model_fields.items():
        for part in parts_of(field.annotation):
            if part is SecretStr:
                yield name
            elif isinstance(part, type) and issubclass(part, BaseModel):
                yield from find_secrets(part)


def parts_of(annotation: Any) -> Iterator[Any]:  # noqa: ANN401 - whatever a field is annotated with
    """The annotation and all that it is made of."""
    yield annotation
    for argument in get_args(annotation):
        yield from parts_of(argument)


def test_the_chart_knows_every_secret_of_the_configuration() -> None:
    """It rejects those that stand in the values."""
    models: list[type[BaseModel]] = [Settings]
    for name in registry.engine_types():
        try:
            models.append(registry.load(name).config)
        except EngineError:
            continue
    text = (CHART / "templates" / "_validation.tpl").read_text()
    listed = re.search(r"\$secrets := list (.*?) -}}", text)
    assert listed is not None
    known = set(re.findall(r'"(\w+)"', listed[1]))
    assert {name for model in models for name in find_secrets(model)} == known
