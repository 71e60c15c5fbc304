"""The words that call up what a LoRA was trained on, from the metadata of its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.loras.catalog import LoraCatalog
from atelier_engines.diffusion.loras.trigger_words import read_trigger_words

PHRASE = {"modelspec.trigger_phrase": "  w00l\tstyle "}
TAGS = {
    "ss_tag_frequency": json.dumps(
        {
            "10_w00l": {"knitted": 20, "w00l style": 20, "cat": 3, "red": 11},
            "5_more": {"w00l style": 8, "dog": 4},
        }
    ),
    "ss_dataset_dirs": json.dumps({"10_w00l": {"n_repeats": 10, "img_count": 20}}),
}


def write(path: Path, metadata: dict[str, str]) -> Path:
    """A file of weights with that metadata."""
    save_file({"w": torch.zeros(1)}, path, metadata)
    return path


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (PHRASE, ("w00l style",)),
        (PHRASE | TAGS, ("w00l style",)),
        (TAGS, ("knitted", "w00l style", "red")),
        ({"ss_tag_frequency": TAGS["ss_tag_frequency"]}, ("knitted", "w00l style", "red")),
        ({"ss_tag_frequency": '{"1_a": {"once": 1}, "2_b": 5}'}, ("once",)),
        ({"ss_tag_frequency": json.dumps({"1_a": {"a caption " * 20: 9, "b": True}})}, ()),
        ({"ss_tag_frequency": "{", "ss_dataset_dirs": "[1]"}, ()),
        ({"modelspec.trigger_phrase": " \x1b[31m "}, ("[31m",)),
        ({"other": "x"}, ()),
    ],
)
def test_trigger_words_are_the_phrase_or_the_common_tags(
    metadata: dict[str, str], words: tuple[str, ...], tmp_path: Path
) -> None:
    """Tags of more than half of the images; captions, damage and control characters are left out."""
    assert read_trigger_words(write(tmp_path / "a.safetensors", metadata)) == words


def test_a_file_that_is_none_has_no_words(tmp_path: Path) -> None:
    """Whoever loads it says what is wrong."""
    (tmp_path / "a.safetensors").write_bytes(b"no")
    assert read_trigger_words(tmp_path / "a.safetensors") == ()
    assert read_trigger_words(tmp_path / "none.safetensors") == ()


def test_a_catalog_has_them_by_lora(tmp_path: Path) -> None:
    """Only where there are any."""
    write(tmp_path / "wool.safetensors", PHRASE)
    write(tmp_path / "ink.safetensors", {})
    settings = {"model": "somewhere", "download": False, "lora_directory": str(tmp_path)}
    catalog = LoraCatalog(DiffusionConfig.model_validate(settings))
    assert catalog.trigger_words == {"wool": ("w00l style",)}
