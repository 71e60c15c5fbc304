"""The `tangoflux` engine: audio of up to 30 s, effects and ambience, by TangoFlux, on this machine's CPU or GPU.

Importing this package imports no torch; that happens when an engine starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from atelier_engines.audio_diffusion.build_planning import plan
from atelier_engines.audio_diffusion.engine import AudioEngine
from atelier_engines.audio_diffusion.prompt_match_files import list_prompt_match
from atelier_engines.audio_diffusion.reusing import list_embedder, reuse_clips
from atelier_engines.audio_diffusion.weights_entries import list_model
from atelier_engines.builds import BuildPlan
from atelier_engines.engine import Engine, EngineType
from atelier_engines.local.device_group import create_for_devices
from atelier_engines.tangoflux.config import TangoFluxConfig
from atelier_engines.tangoflux.facts import describe_unloaded
from atelier_engines.tangoflux.published_files import find_files
from atelier_engines.weights import WeightsEntry

if TYPE_CHECKING:
    from atelier_engines.audio_diffusion.networks import AudioNetworks
    from atelier_engines.audio_diffusion.pipeline import AudioPipeline


def create_engine(config: TangoFluxConfig) -> Engine:
    """The engine of a configuration: on one device, or one on each of its devices."""
    return reuse_clips(create_for_devices(config, _create), config)


def _create(config: TangoFluxConfig) -> AudioEngine:
    return AudioEngine(config, describe_unloaded(config), partial(_load, config))


def _load(config: TangoFluxConfig) -> AudioPipeline:
    from atelier_engines.tangoflux.loading import load  # noqa: PLC0415  (takes seconds)

    return load(config)


def list_weights(config: TangoFluxConfig) -> Sequence[WeightsEntry]:
    """The model; everything that makes audio is in it. Then what scores candidates and compares prompts, if any."""
    model = list_model(config, config.model, describe_unloaded(config), find_files)
    return [*model, *list_prompt_match(config), *list_embedder(config)]


def plan_builds(config: TangoFluxConfig) -> BuildPlan:
    """See BuildPlanner."""
    return plan(config, describe_unloaded(config), partial(_find_networks, config))


def _find_networks(config: TangoFluxConfig) -> AudioNetworks:
    from atelier_engines.tangoflux.loading import find_networks  # noqa: PLC0415  (takes seconds)

    return find_networks(config)


ENGINE = EngineType(
    config=TangoFluxConfig, create=create_engine, weights=list_weights, builds=plan_builds
)
"""The engine type that the package registers."""
