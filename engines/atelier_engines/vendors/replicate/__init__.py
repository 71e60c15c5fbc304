"""replicate: image models at replicate.com."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier_engines.engine import EngineType
from atelier_engines.vendors.replicate.config import ReplicateConfig

if TYPE_CHECKING:
    from atelier_engines.vendors.replicate.engine import ReplicateEngine


def _create(config: ReplicateConfig) -> ReplicateEngine:
    from atelier_engines.vendors.replicate.engine import ReplicateEngine  # noqa: PLC0415 (brings HTTP, Pillow)

    return ReplicateEngine(config)


ENGINE: EngineType[ReplicateConfig] = EngineType(
    config=ReplicateConfig, create=_create, asks_on_start=True, address_key="base_url"
)
"""What the package registers."""
