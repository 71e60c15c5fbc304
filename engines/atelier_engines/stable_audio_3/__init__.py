"""The `stable_audio_3` engine: effects, ambience and music of up to 384 s, by Stable Audio 3, on this machine.

Importing this package imports no torch; that happens when an engine starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from atelier_engines.audio_diffusion.engine import AudioEngine
from atelier_engines.audio_diffusion.prompt_match_files import list_prompt_match
from atelier_engines.audio_diffusion.reusing import list_embedder, reuse_clips
from atelier_engines.audio_diffusion.weights_entries import list_model
from atelier_engines.engine import Engine, EngineType
from atelier_engines.local.device_group import create_for_devices
from atelier_engines.stable_audio_3.config import StableAudio3Config
from atelier_engines.stable_audio_3.facts import describe_unloaded
from atelier_engines.stable_audio_3.model_folder import find_files
from atelier_engines.weights import WeightsEntry

if TYPE_CHECKING:
    from atelier_engines.audio_diffusion.pipeline import AudioPipeline


def create_engine(config: StableAudio3Config) -> Engine:
    """The engine of a configuration: on one device, or one on each of its devices."""
    return reuse_clips(create_for_devices(config, _create), config)


def _create(config: StableAudio3Config) -> AudioEngine:
    return AudioEngine(config, describe_unloaded(config), partial(_load, config))


def _load(config: StableAudio3Config) -> AudioPipeline:
    from atelier_engines.stable_audio_3.assembly import load  # noqa: PLC0415  (takes seconds)

    return load(config)


def list_weights(config: StableAudio3Config) -> Sequence[WeightsEntry]:
    """The model. Then what scores candidates and compares prompts, if any."""
    model = list_model(config, config.model, describe_unloaded(config), find_files)
    return [*model, *list_prompt_match(config), *list_embedder(config)]


ENGINE = EngineType(config=StableAudio3Config, create=create_engine, weights=list_weights)
"""The engine type that the package registers."""
