"""runpod: ComfyUI workflows on serverless endpoints at RunPod."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier_engines.engine import EngineType
from atelier_engines.vendors.runpod.config import RunpodConfig

if TYPE_CHECKING:
    from atelier_engines.vendors.runpod.engine import RunpodEngine


def _create(config: RunpodConfig) -> RunpodEngine:
    from atelier_engines.vendors.runpod.engine import RunpodEngine  # noqa: PLC0415 (brings HTTP, Pillow)

    return RunpodEngine(config)


ENGINE: EngineType[RunpodConfig] = EngineType(
    config=RunpodConfig, create=_create, asks_on_start=True, address_key="endpoint"
)
"""What the package registers."""
