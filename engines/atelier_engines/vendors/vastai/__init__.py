"""vastai: a GPU rented at Vast.ai on which Atelier itself does the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier_engines.engine import EngineType
from atelier_engines.vendors.vastai.config import VastaiConfig

if TYPE_CHECKING:
    from atelier_engines.vendors.vastai.engine import VastaiEngine


def _create(config: VastaiConfig) -> VastaiEngine:
    from atelier_engines.vendors.vastai.engine import VastaiEngine  # noqa: PLC0415 (brings gRPC)

    return VastaiEngine(config)


ENGINE: EngineType[VastaiConfig] = EngineType(config=VastaiConfig, create=_create)
"""What the package registers."""
