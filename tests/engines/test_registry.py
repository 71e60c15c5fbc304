"""Engine types are found among the installed packages, whoever wrote them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from atelier_engines import registry
from atelier_engines.errors import EngineUnavailableError
from atelier_engines.sketch import ENGINE

ACME = """
from pydantic import BaseModel
from atelier_engines.engine import EngineType
from atelier_engines.sketch import ENGINE as SKETCH

class AcmeConfig(BaseModel):
    key: str

ENGINE = EngineType(config=AcmeConfig, create=lambda config: SKETCH.create(SKETCH.config()))
NUMBER = 7
"""
ENTRY_POINTS = """
[atelier.engines]
acme = acme_engine:ENGINE
acme_number = acme_engine:NUMBER
acme_nothing = acme_engine:NOTHING
acme_heavy = acme_heavy:ENGINE
"""


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third party's package, installed as an installer lays it out."""
    (tmp_path / "acme_engine.py").write_text(ACME)
    (tmp_path / "acme_heavy.py").write_text("import a_library_that_nobody_has\n")
    information = tmp_path / "acme_engine-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: acme-engine\nVersion: 1.0\n"
    )
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_the_shipped_engines_are_registered_like_any_other() -> None:
    """No list of engines stands in the code."""
    assert {"diffusion", "sketch"} <= set(registry.engine_types())
    assert registry.load("sketch") is ENGINE


@pytest.mark.usefixtures("acme")
def test_a_third_partys_engine_is_found_by_its_entry_point() -> None:
    """Installing the package is all it takes."""
    assert "acme" in registry.engine_types()
    found = registry.load("acme")
    assert found.config.model_validate({"key": "k"}).key == "k"
    assert found.create(found.config(key="k")).capabilities.image is not None


@pytest.mark.usefixtures("acme")
def test_an_unknown_type_names_the_installed_ones() -> None:
    """A misspelt name is easily mended."""
    with pytest.raises(registry.UnknownEngineTypeError, match=r"'skech'.*acme.*sketch"):
        registry.load("skech")


@pytest.mark.usefixtures("acme")
def test_a_missing_library_is_said_by_name() -> None:
    """An engine whose extra is not installed is unavailable, and the text says what is missing."""
    with pytest.raises(EngineUnavailableError, match="a_library_that_nobody_has"):
        registry.load("acme_heavy")


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize("name", ["acme_number", "acme_nothing"])
def test_an_entry_point_to_something_else_is_the_packages_fault(name: str) -> None:
    """The text names the entry point."""
    with pytest.raises(TypeError, match=name):
        registry.load(name)


def test_the_interface_and_the_sketch_type_import_without_any_heavy_library() -> None:
    """A gateway reads engine types and capabilities without loading NumPy, Pillow or torch."""
    program = (
        "import sys, atelier_engines.registry, atelier_engines.sketch, atelier_engines.validation\n"
        "print(sorted({'numpy', 'PIL', 'torch', 'grpc'} & set(sys.modules)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert printed.stdout.strip() == "[]"


def test_a_program_may_register_a_type_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a package, under a name that is free."""
    monkeypatch.setattr(registry, "_registered", {})
    registry.register("mine", ENGINE)
    assert registry.load("mine") is ENGINE
    assert "mine" in registry.engine_types()
    for name in ("mine", "sketch"):
        with pytest.raises(ValueError, match=f"there is an engine type '{name}' already"):
            registry.register(name, ENGINE)
