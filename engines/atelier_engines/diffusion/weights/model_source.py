"""Resolves the name of a whole model: the bundled one, a path, or a reference to the hub."""

from __future__ import annotations

from pathlib import Path

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.weights_config import TINY
from atelier_engines.errors import EngineUnavailableError, ModelMissingError
from atelier_engines.local.weights import sources
from atelier_engines.local.weights.sources import HubReference


def resolve_model(config: DiffusionConfig) -> Path:
    """The model: a directory in diffusers' layout, or one file; downloaded if need be and allowed.

    Raises:
        ModelMissingError: there is none, or it is a pickle; the message says where it was looked for.
        EngineUnavailableError: the package of the bundled model is not installed.
    """
    if config.model == TINY:
        return _bundled_model()
    path = Path(config.model).expanduser()
    hub = sources.parse_hub_reference(config.model)
    if path.is_dir():
        return path
    if path.exists():
        return sources.require_safetensors(path)
    if hub is None:
        raise ModelMissingError(f"there is no model directory {path} and no such file")
    if hub.file is not None:
        return sources.download_file(hub, hub.file, download=config.download)
    return _download_pipeline(hub, config)


def _bundled_model() -> Path:
    try:
        from atelier_tiny import WEIGHTS  # noqa: PLC0415  (only this model needs the package)
    except ImportError as error:
        raise EngineUnavailableError(
            "the model atelier-tiny comes with the package atelier-tiny, which is not installed; "
            "install atelier-engines[local], or configure another model"
        ) from error
    return Path(WEIGHTS)


def _download_pipeline(hub: HubReference, config: DiffusionConfig) -> Path:
    """The files that diffusers needs, as safetensors only; what is cached is not downloaded again."""
    from diffusers import DiffusionPipeline  # noqa: PLC0415  (slow, and only the hub needs it)

    try:
        folder = DiffusionPipeline.download(
            hub.repository,
            revision=hub.revision or config.revision,
            variant=config.variant,
            use_safetensors=True,
            local_files_only=not config.download,
        )
    except Exception as error:  # the hub's client raises many kinds
        raise sources.explain_missing(hub, error, download=config.download) from error
    return Path(folder)
