"""Which LoRAs an engine offers, and where it finds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from atelier_engines.capabilities import ImageFeature
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.loras import config_loras
from atelier_engines.diffusion.loras.catalog import LoraCatalog
from atelier_engines.errors import ModelMissingError, UnsupportedError


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory of LoRAs, and of other things."""
    for name in ("ink.safetensors", "wool.safetensors", "notes.txt", "old.ckpt"):
        (tmp_path / name).write_bytes(name.encode())
    for folder, files in {
        "glass": ["pytorch_lora_weights.safetensors", "other.safetensors"],
        "paper.v2": ["paper.safetensors"],
        "two": ["a.safetensors", "b.safetensors"],
        "empty": [],
    }.items():
        (tmp_path / folder).mkdir()
        for name in files:
            (tmp_path / folder / name).write_bytes(name.encode())
    return tmp_path


def config(**settings: object) -> DiffusionConfig:
    """Settings of an engine of another model than the small one, which has LoRAs of its own."""
    return DiffusionConfig.model_validate({"model": "somewhere", "download": False, **settings})


def test_files_and_directories_are_known_by_their_names(directory: Path) -> None:
    """Directories that hold several, or none, are no LoRAs."""
    settings = config(lora_directory=str(directory))
    assert config_loras.names(settings) == ("glass", "ink", "paper.v2", "wool")
    library = LoraCatalog(settings)
    assert library.names == config_loras.names(settings)
    assert library.file("glass") == directory / "glass" / "pytorch_lora_weights.safetensors"
    assert library.file("paper.v2") == directory / "paper.v2" / "paper.safetensors"
    assert library.file("ink") == directory / "ink.safetensors"


def test_what_is_configured_by_name_wins(directory: Path) -> None:
    """Over a file of that name in the directory."""
    settings = config(
        lora_directory=str(directory),
        loras={
            "ink": str(directory / "glass"),
            "another name": str(directory / "wool.safetensors"),
        },
    )
    library = LoraCatalog(settings)
    assert library.names == ("another name", "glass", "ink", "paper.v2", "wool")
    assert library.file("ink").parent.name == "glass"


def test_nothing_is_offered_where_nothing_is_configured(directory: Path) -> None:
    """And what is, is counted."""
    assert config_loras.features(config()) == frozenset()
    assert config_loras.max_loras(config()) == 0
    some = config(lora_directory=str(directory), max_loras=3)
    assert config_loras.features(some) == {ImageFeature.LORA}
    assert config_loras.max_loras(some) == 3


@pytest.mark.parametrize("name", ["nobody", "../ink", "glass/other", ""])
def test_an_unknown_name_is_refused_with_those_there_are(directory: Path, name: str) -> None:
    """Whatever lies at that path."""
    library = LoraCatalog(config(lora_directory=str(directory)))
    with pytest.raises(UnsupportedError, match=r"there is glass, ink, paper\.v2, wool"):
        library.file(name)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gone.safetensors", "the LoRA bad: there is no"),
        ("old.ckpt", r"the LoRA bad: .*old\.ckpt is refused"),
        ("two", "neither pytorch_lora_weights.safetensors nor exactly one"),
        ("empty", "neither pytorch_lora_weights.safetensors nor exactly one"),
        ("nobody/nothing", "the LoRA bad: .*download is off"),
    ],
    ids=lambda value: value[:24],
)
def test_what_is_not_there_is_told_at_the_start(directory: Path, source: str, message: str) -> None:
    """With the LoRA's name; a pickle is refused."""
    found = source if "/" in source else str(directory / source)
    with pytest.raises(ModelMissingError, match=message):
        LoraCatalog(config(loras={"bad": found}))


def test_a_directory_that_is_not_there_is_told_at_the_start(tmp_path: Path) -> None:
    """An empty list would hide a misspelt path."""
    with pytest.raises(ModelMissingError, match="lora_directory: there is no directory"):
        LoraCatalog(config(lora_directory=str(tmp_path / "gone")))
