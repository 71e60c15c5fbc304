"""Where a model comes from: a package, a directory or the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from atelier_engines.diffusion import faults
from atelier_engines.diffusion.config import TINY, DiffusionConfig
from atelier_engines.errors import EngineUnavailableError, ModelMissingError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def locate(config: DiffusionConfig) -> Path:
    """The model's directory, downloaded if need be and allowed.

    Raises:
        ModelMissingError: there is none; the text says where it was looked for.
        EngineUnavailableError: the package of the small model is not installed.
    """
    if config.model == TINY:
        return _tiny()
    folder = Path(config.model).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ModelMissingError(f"{folder} is a file; a model is a directory in diffusers' layout")
    if not _HUB_ID.fullmatch(config.model):
        raise ModelMissingError(f"there is no model directory {folder}")
    return _from_hub(config)


def _tiny() -> Path:
    try:
        from atelier_tiny import WEIGHTS  # noqa: PLC0415  (only this model needs the package)
    except ImportError as error:
        raise EngineUnavailableError(
            "the model atelier-tiny comes with the package atelier-tiny, which is not installed; "
            "install atelier-engines[local], or configure another model"
        ) from error
    return Path(WEIGHTS)


def _from_hub(config: DiffusionConfig) -> Path:
    """Weights as safetensors only; whatever is in the cache is not downloaded again."""
    from diffusers import DiffusionPipeline  # noqa: PLC0415  (slow, and only the hub needs it)

    try:
        folder = DiffusionPipeline.download(
            config.model,
            revision=config.revision,
            variant=config.variant,
            use_safetensors=True,
            local_files_only=not config.download,
        )
    except Exception as error:  # the hub's client raises many kinds
        where = "on the hub" if config.download else "in the local cache, and download is off"
        raise ModelMissingError(
            f"there is no directory {config.model}, and no model of that name with safetensors "
            f"weights could be had {where}: {faults.first_line(error)}"
        ) from error
    return Path(folder)
