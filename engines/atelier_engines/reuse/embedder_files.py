"""Finds the files of a sentence embedding."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from atelier_engines.errors import ModelMissingError
from atelier_engines.local.weights import digests, sources
from atelier_engines.local.weights.verification import verify_files
from atelier_engines.weights import Weights

_WEIGHTS = "model.safetensors"
_FILES = (
    "config.json",
    "tokenizer*",
    "vocab.txt",
    "special_tokens_map.json",
    "1_Pooling/*",
    _WEIGHTS,
)


def find_folder(source: str, *, download: bool) -> Path:
    """The directory of a model.

    Raises:
        ModelMissingError: there is none, or no weights in it.
    """
    folder = sources.resolve_folder(source, _FILES, download=download)
    if not (folder / _WEIGHTS).is_file():
        raise ModelMissingError(f"there is no file {folder / _WEIGHTS}")
    return folder


def find_weights(source: str, *, download: bool) -> Weights:
    """The weights of a model.

    Raises:
        ModelMissingError: there are none.
    """
    folder = find_folder(source, download=download)
    files = (folder / _WEIGHTS,)
    return Weights(
        files=files,
        family="bert",
        digest=partial(digests.digest_folder, folder, files),
        verify=partial(verify_files, files),
    )
