"""The `diffusion` engine: text-to-image with Stable Diffusion 1.5, 2.1 and XL, on this machine's CPU or GPU.

Importing this package imports no torch; that happens when an engine starts.
"""

from __future__ import annotations

from atelier_engines.diffusion.builds import library_fetcher
from atelier_engines.diffusion.builds.planner import plan as plan_builds
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.engine import DiffusionEngine
from atelier_engines.diffusion.requirements import find_problems
from atelier_engines.diffusion.tuning.tune import tune
from atelier_engines.diffusion.weights.listing import list_weights
from atelier_engines.engine import Engine, EngineType
from atelier_engines.local.device_group import create_for_devices


def create_engine(config: DiffusionConfig) -> Engine:
    """The engine of a configuration: on one device, or one on each of its devices."""
    return create_for_devices(config, DiffusionEngine)


ENGINE = EngineType(
    config=DiffusionConfig,
    create=create_engine,
    weights=list_weights,
    tune=tune,
    find_problems=find_problems,
    builds=plan_builds,
    fetch_tensorrt=library_fetcher.fetch,
)

__all__ = ["ENGINE", "DiffusionConfig", "DiffusionEngine"]
