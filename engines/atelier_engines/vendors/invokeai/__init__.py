"""invokeai: SDXL models on an InvokeAI server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier_engines.engine import EngineType
from atelier_engines.vendors.invokeai.config import InvokeAiConfig

if TYPE_CHECKING:
    from atelier_engines.vendors.invokeai.engine import InvokeAiEngine


def _create(config: InvokeAiConfig) -> InvokeAiEngine:
    from atelier_engines.vendors.invokeai.engine import InvokeAiEngine  # noqa: PLC0415 (brings HTTP, sockets)

    return InvokeAiEngine(config)


ENGINE: EngineType[InvokeAiConfig] = EngineType(
    config=InvokeAiConfig, create=_create, asks_on_start=True, address_key="base_url"
)
"""What the package registers."""
