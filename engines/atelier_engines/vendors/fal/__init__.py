"""fal: models and ComfyUI workflows at fal.ai."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier_engines.engine import EngineType
from atelier_engines.vendors.fal.config import FalConfig

if TYPE_CHECKING:
    from atelier_engines.vendors.fal.engine import FalEngine


def _create(config: FalConfig) -> FalEngine:
    from atelier_engines.vendors.fal.engine import FalEngine  # noqa: PLC0415 (brings HTTP, Pillow)

    return FalEngine(config)


ENGINE: EngineType[FalConfig] = EngineType(
    config=FalConfig, create=_create, asks_on_start=True, address_key="base_url"
)
"""What the package registers."""
