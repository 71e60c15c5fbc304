"""bfl: FLUX models at Black Forest Labs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier_engines.engine import EngineType
from atelier_engines.vendors.bfl.config import BflConfig

if TYPE_CHECKING:
    from atelier_engines.vendors.bfl.engine import BflEngine


def _create(config: BflConfig) -> BflEngine:
    from atelier_engines.vendors.bfl.engine import BflEngine  # noqa: PLC0415 (brings HTTP, Pillow)

    return BflEngine(config)


ENGINE: EngineType[BflConfig] = EngineType(
    config=BflConfig, create=_create, asks_on_start=True, address_key="base_url"
)
"""What the package registers."""
