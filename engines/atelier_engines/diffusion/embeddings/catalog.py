"""Finds the files of the embeddings that an engine offers, and those inside the files of its LoRAs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.embeddings import config_embeddings
from atelier_engines.errors import ModelMissingError
from atelier_engines.local.weights import named_files, safetensors_header

BUNDLED = "bundle_emb."
"""Prefix of the keys of embeddings that a LoRA's file brings along; their name and their own key follow.

Source: AUTOMATIC1111/stable-diffusion-webui, extensions-builtin/Lora/networks.py, load_network; OneTrainer writes it.
"""

_log = logging.getLogger(__name__)


def resolve_files(config: DiffusionConfig) -> Mapping[str, Path]:
    """The files by name, downloaded if needed and allowed; the log names those that are not offered.

    Raises:
        ModelMissingError: one is absent, or no safetensors file.
    """
    directory = config.embedding_directory
    if directory is not None and not Path(directory).expanduser().is_dir():
        raise ModelMissingError(f"embedding_directory: there is no directory {directory}")
    if directory is not None:
        named_files.log_unnamed(Path(directory).expanduser(), config_embeddings.KIND)
    for name in config_embeddings.refused_files(config):
        _log.warning(
            "file_not_offered",
            extra={
                "kind": config_embeddings.KIND.title,
                "file": name,
                "reason": "loading it may run code; convert it to safetensors",
            },
        )
    return {
        name: named_files.resolve(name, source, config_embeddings.KIND, download=config.download)
        for name, source in config_embeddings.sources(config).items()
    }


def list_bundled(path: Path) -> tuple[str, ...]:
    """Names of the embeddings in the file of a LoRA, in their order; none if it is broken, as is said later."""
    try:
        keys = safetensors_header.read(path)
    except ModelMissingError:
        return ()
    found = (key.removeprefix(BUNDLED).split(".")[0] for key in keys if key.startswith(BUNDLED))
    return tuple(name for name in dict.fromkeys(found) if named_files.is_name(name))
