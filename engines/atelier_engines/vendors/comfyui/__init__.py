"""ComfyUI: workflows on one or more servers of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier_engines.engine import EngineType
from atelier_engines.vendors.comfyui.config import ComfyuiConfig

if TYPE_CHECKING:
    from atelier_engines.vendors.comfyui.engine import ComfyuiEngine


def _create(config: ComfyuiConfig) -> ComfyuiEngine:
    from atelier_engines.vendors.comfyui.engine import ComfyuiEngine  # noqa: PLC0415 (brings Pillow, NumPy)

    return ComfyuiEngine(config)


ENGINE: EngineType[ComfyuiConfig] = EngineType(
    config=ComfyuiConfig, create=_create, asks_on_start=True
)
"""What the package registers."""
