"""Upscales images with the Lanczos filter or with super-resolution models; registers the engine `upscale`.

Importing this package imports no torch; that happens when networks are loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier_engines.engine import EngineType
from atelier_engines.upscaling.config import UpscaleConfig

if TYPE_CHECKING:
    from atelier_engines.upscaling.engine import UpscaleEngine


def _create(config: UpscaleConfig) -> UpscaleEngine:
    from atelier_engines.upscaling.engine import UpscaleEngine  # noqa: PLC0415 (brings Pillow)

    return UpscaleEngine(config)


ENGINE: EngineType[UpscaleConfig] = EngineType(config=UpscaleConfig, create=_create)
"""The engine type that the package registers."""
