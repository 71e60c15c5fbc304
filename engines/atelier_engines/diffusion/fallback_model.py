"""Loads the configured model, or else the one that is configured to stand in for it."""

from __future__ import annotations

import logging
from dataclasses import replace

from atelier_engines.diffusion import loading
from atelier_engines.diffusion.capabilities import model_name
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.pipeline import Pipeline
from atelier_engines.errors import EngineError, ModelMissingError, OutOfMemoryError

_log = logging.getLogger(__name__)

_OF_THE_MODEL = (
    *("revision", "variant", "base", "vae", "variants", "digest", "preset", "prediction_type"),
    *("steps", "guidance", "max_guidance", "width", "height", "scheduler", "timestep_spacing"),
)
"""Settings that belong to one model."""


def load_model(config: DiffusionConfig) -> Pipeline:
    """A pipeline with the model, or with its fallback, whose information then says so.

    Raises:
        ModelMissingError: the model, and its fallback, are absent, incomplete, broken, or of another kind.
        EngineUnavailableError: the device or a package is absent.
        OutOfMemoryError: they are too large for the device.
    """
    try:
        return loading.load(config)
    except (ModelMissingError, OutOfMemoryError) as error:
        if config.fallback_model is None:
            raise
        return _load_fallback(config, config.fallback_model, error)


def _load_fallback(config: DiffusionConfig, model: str, error: EngineError) -> Pipeline:
    wanted = model_name(config)
    fields = DiffusionConfig.model_fields
    own = {name: fields[name].get_default(call_default_factory=True) for name in _OF_THE_MODEL}
    fallback = config.model_copy(update={**own, "model": model, "fallback_model": None})
    _log.warning(
        "model_fallback_used",
        extra={"model": wanted, "fallback": model_name(fallback), "error": str(error)},
    )
    pipeline = loading.load(fallback)
    used = replace(pipeline.info.model, fallback_for=wanted, fallback_reason=str(error))
    return replace(pipeline, info=replace(pipeline.info, model=used))
