"""Finds the files of the model that scores candidates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from atelier_engines.audio_diffusion.config import AudioModelConfig
from atelier_engines.errors import ModelMissingError
from atelier_engines.local.weights import digests, sources
from atelier_engines.local.weights.verification import verify_files
from atelier_engines.weights import Weights, WeightsEntry

_WEIGHTS = "model.safetensors"
_FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer*",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    _WEIGHTS,
)


def find_folder(source: str, *, download: bool) -> Path:
    """The directory of a CLAP model.

    Raises:
        ModelMissingError: there is none, or no weights in it; the message says what to set.
    """
    try:
        folder = sources.resolve_folder(source, _FILES, download=download)
    except ModelMissingError as error:
        raise ModelMissingError(
            f"{error}; prompt_match.model names what scores candidates"
        ) from error
    if not (folder / _WEIGHTS).is_file():
        raise ModelMissingError(
            f"there is no file {folder / _WEIGHTS}; prompt_match.model is to name a CLAP model with it"
        )
    return folder


def list_prompt_match(config: AudioModelConfig) -> Sequence[WeightsEntry]:
    """The model that scores candidates, if one is configured."""
    if config.prompt_match is None:
        return []
    source = config.prompt_match.model
    return [WeightsEntry(key="prompt_match.model", source=source, find=partial(_find, source))]


def _find(source: str, download: bool) -> Weights:  # noqa: FBT001 (see WeightsEntry)
    folder = find_folder(source, download=download)
    files = (folder / _WEIGHTS,)
    return Weights(
        files=files,
        family="clap",
        digest=partial(digests.digest_folder, folder, files),
        verify=partial(verify_files, files),
    )
