"""openai: image models of OpenAI, and of services that speak its protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier_engines.engine import EngineType
from atelier_engines.vendors.openai.config import OpenaiConfig

if TYPE_CHECKING:
    from atelier_engines.vendors.openai.engine import OpenaiEngine


def _create(config: OpenaiConfig) -> OpenaiEngine:
    from atelier_engines.vendors.openai.engine import (  # noqa: PLC0415 (brings Pillow)
        OpenaiEngine,
    )

    return OpenaiEngine(config)


ENGINE: EngineType[OpenaiConfig] = EngineType(
    config=OpenaiConfig, create=_create, asks_on_start=True, address_key="base_url"
)
"""What the package registers."""
