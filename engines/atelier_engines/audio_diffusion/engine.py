"""The engine of one audio model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

from atelier_engines.audio_diffusion.config import AudioModelConfig
from atelier_engines.audio_diffusion.info import AudioModelInfo, build_capabilities
from atelier_engines.capabilities import Capabilities
from atelier_engines.errors import EngineUnavailableError
from atelier_engines.local.model_engine import ModelEngine
from atelier_engines.local.step_scheduler import FairBatcher
from atelier_engines.task import AudioTask

if TYPE_CHECKING:
    from atelier_engines.audio_diffusion.pipeline import AudioPipeline
    from atelier_engines.audio_diffusion.prompt_match import PromptMatch
    from atelier_engines.audio_diffusion.sampling import DenoiseScheduler

_CUDA_ROWS = 16
"""Rows of a run on CUDA where nothing is configured: eight clips with guidance. It is not measured."""


class AudioEngine(ModelEngine[AudioTask, "AudioPipeline"]):
    """Makes audio with one model. See Engine."""

    def __init__(
        self,
        config: AudioModelConfig,
        unloaded: AudioModelInfo,
        load: Callable[[], AudioPipeline],
    ) -> None:
        """Create the engine without loading anything.

        Args:
            config: its settings.
            unloaded: what is known of the model before it is loaded.
            load: loads it, on the engine's thread; may import torch, and raises as `start`.
        """
        super().__init__(
            AudioTask,
            name="audio",
            load=partial(_load, config, unloaded, load),
            describe=partial(_describe, config, unloaded),
        )


def _load(
    config: AudioModelConfig,
    unloaded: AudioModelInfo,
    load: Callable[[], AudioPipeline],
    scheduler: DenoiseScheduler,
) -> AudioPipeline:
    require_license(config, unloaded)
    pipeline = load()
    rows = choose_rows(config.max_batch, pipeline.components.device.type)
    scheduler.configure(pipeline.predict, FairBatcher(lambda *_: rows))
    if config.prompt_match is None:
        return pipeline
    load_scorer = partial(_load_scorer, config.prompt_match.model, download=config.download)
    return replace(
        pipeline, load_scorer=cache(load_scorer), scores_kept_clips=config.scores_kept_clips
    )


def _load_scorer(source: str, *, download: bool) -> PromptMatch:
    from atelier_engines.audio_diffusion import prompt_match  # noqa: PLC0415  (imports torch)

    return prompt_match.load(source, download=download)


def _describe(
    config: AudioModelConfig, unloaded: AudioModelInfo, pipeline: AudioPipeline | None
) -> Capabilities:
    return build_capabilities(config, unloaded if pipeline is None else pipeline.model.info)


def require_license(config: AudioModelConfig, unloaded: AudioModelInfo) -> None:
    """Return if the licence is accepted.

    Raises:
        EngineUnavailableError: it is not; the message says what it asks.
    """
    if not config.accept_license:
        raise EngineUnavailableError(
            f"the weights of {unloaded.title} have a licence: {unloaded.model.license}; read it, "
            "and set accept_license: true if you accept it"
        )


def choose_rows(max_batch: int | None, device: str) -> int:
    """Most rows of a run: as configured, else one clip at a time on a CPU, whose threads one clip keeps busy."""
    if max_batch is not None:
        return max_batch
    return 1 if device == "cpu" else _CUDA_ROWS
