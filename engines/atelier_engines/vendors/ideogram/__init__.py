"""ideogram: version 3 of Ideogram's models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier_engines.engine import EngineType
from atelier_engines.vendors.ideogram.config import IdeogramConfig

if TYPE_CHECKING:
    from atelier_engines.vendors.ideogram.engine import IdeogramEngine


def _create(config: IdeogramConfig) -> IdeogramEngine:
    from atelier_engines.vendors.ideogram.engine import (  # noqa: PLC0415 (brings HTTP, Pillow)
        IdeogramEngine,
    )

    return IdeogramEngine(config)


ENGINE: EngineType[IdeogramConfig] = EngineType(
    config=IdeogramConfig, create=_create, address_key="base_url"
)
"""What the package registers."""
