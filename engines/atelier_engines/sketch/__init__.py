"""The engine `sketch`: images and audio without a model, for first steps, tests and benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier_engines.engine import EngineType
from atelier_engines.sketch.config import SketchConfig

if TYPE_CHECKING:
    from atelier_engines.sketch.engine import SketchEngine


def _create(config: SketchConfig) -> SketchEngine:
    from atelier_engines.sketch.engine import SketchEngine  # noqa: PLC0415 (brings Pillow, NumPy)

    return SketchEngine(config)


ENGINE: EngineType[SketchConfig] = EngineType(config=SketchConfig, create=_create)
"""What the package registers."""
