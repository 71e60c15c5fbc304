"""Has an audio engine reuse clips, where that is configured."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from atelier_engines.audio_diffusion.config import AudioModelConfig
from atelier_engines.engine import Engine
from atelier_engines.reuse.embedder_files import find_weights
from atelier_engines.reuse.engine import ReusingEngine
from atelier_engines.weights import Weights, WeightsEntry

if TYPE_CHECKING:
    from atelier_engines.reuse.embedder import SentenceEmbedder


def reuse_clips(engine: Engine, config: AudioModelConfig) -> Engine:
    """The engine itself, or with `reuse` what returns its clips again."""
    if config.reuse is None:
        return engine
    load = partial(_load_embedder, config.reuse.bge_model, download=config.download)
    return ReusingEngine(engine, config.reuse, load)


def list_embedder(config: AudioModelConfig) -> Sequence[WeightsEntry]:
    """The sentence embedding, if one is configured."""
    if config.reuse is None or not config.reuse.use_bge:
        return []
    source = config.reuse.bge_model
    return [WeightsEntry(key="reuse.bge_model", source=source, find=partial(_find, source))]


def _load_embedder(source: str, *, download: bool) -> SentenceEmbedder:
    from atelier_engines.reuse import embedder  # noqa: PLC0415  (imports torch)

    return embedder.load(source, download=download)


def _find(source: str, download: bool) -> Weights:  # noqa: FBT001 (see WeightsEntry)
    return find_weights(source, download=download)
