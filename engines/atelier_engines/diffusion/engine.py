"""The `diffusion` engine: one image model."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from atelier_engines.capabilities import Capabilities, Reproducibility
from atelier_engines.diffusion import capabilities
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.model_info import ModelInfo
from atelier_engines.diffusion.tuning import records, tune
from atelier_engines.local.model_engine import ModelEngine
from atelier_engines.local.step_scheduler import FairBatcher
from atelier_engines.task import ImageTask

if TYPE_CHECKING:
    from atelier_engines.diffusion.batching import DenoiseScheduler
    from atelier_engines.diffusion.pipeline import Pipeline


class DiffusionEngine(ModelEngine[ImageTask, "Pipeline"]):
    """Generates images with one model. See Engine."""

    def __init__(self, config: DiffusionConfig) -> None:
        """Create the engine without loading anything."""
        super().__init__(
            ImageTask,
            name="diffusion",
            load=partial(_load, config),
            describe=partial(_describe, config),
        )


def _describe(config: DiffusionConfig, pipeline: Pipeline | None) -> Capabilities:
    info = capabilities.unloaded_info(config) if pipeline is None else pipeline.info
    return capabilities.build_capabilities(config, info)


def _load(config: DiffusionConfig, scheduler: DenoiseScheduler) -> Pipeline:
    from atelier_engines.diffusion import (  # noqa: PLC0415  (takes seconds)
        batching,
        fallback_model,
    )

    pipeline = fallback_model.load_model(config)
    limit = batching.choose_limit(
        config.max_rows,
        pipeline.family.runtime.device.type,
        records.read(tune.tuning_path(config), tune.tuning_key(pipeline)),
    )
    scheduler.configure(pipeline.predict, FairBatcher(limit))
    if limit.always_one:
        return pipeline
    return replace(pipeline, info=_lower_reproducibility(pipeline.info))


def _lower_reproducibility(info: ModelInfo) -> ModelInfo:
    """The reproducibility of an engine whose images share runs: the batch changes the last bits."""
    if info.reproducibility is not Reproducibility.BIT_EXACT:
        return info
    return replace(info, reproducibility=Reproducibility.SAME_ENGINE)
