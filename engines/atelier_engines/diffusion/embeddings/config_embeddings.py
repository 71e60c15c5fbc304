"""The embeddings that a configuration offers, without loading anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.local.weights.named_files import FileKind, list_directory
from atelier_engines.local.weights.sources import PICKLE_SUFFIXES

KIND = FileKind(title="embedding", usual_file="learned_embeds.safetensors")


def sources(config: DiffusionConfig) -> Mapping[str, str]:
    """The source of each embedding, in the order of the names; those configured by name take precedence."""
    found: dict[str, str] = {}
    if config.embedding_directory is not None:
        found |= list_directory(Path(config.embedding_directory).expanduser(), KIND)
    return dict(sorted((found | config.embeddings).items()))


def names(config: DiffusionConfig) -> tuple[str, ...]:
    """Names of the embeddings that callers can use."""
    return tuple(sources(config))


def refused_files(config: DiffusionConfig) -> tuple[str, ...]:
    """Names of the files in the directory that are not offered, because loading them may run code."""
    if config.embedding_directory is None:
        return ()
    directory = Path(config.embedding_directory).expanduser()
    return tuple(
        sorted(path.name for path in directory.glob("*") if path.suffix in PICKLE_SUFFIXES)
    )
