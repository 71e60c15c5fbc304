"""Which kinds of controls a configuration offers, without loading anything."""

from __future__ import annotations

from collections.abc import Mapping

from atelier_engines.capabilities import ImageFeature
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.weights_config import TINY
from atelier_engines.task import ControlType


def networks(config: DiffusionConfig) -> Mapping[ControlType, str]:
    """Where the ControlNet of each kind comes from; those of the small model come with it."""
    found = {ControlType(kind): str(path) for kind, path in _tiny(config).items()}
    return {**found, **config.controlnets}


def preprocessed_types(config: DiffusionConfig) -> frozenset[ControlType]:
    """Kinds of controls whose map can be computed from a photo."""
    named = {
        ControlType.CANNY: True,
        ControlType.DEPTH: config.preprocessors.depth is not None,
        ControlType.POSE: config.preprocessors.pose is not None,
        ControlType.SEGMENTATION: config.preprocessors.segmentation is not None,
    }
    return frozenset(kind for kind in networks(config) if named[kind])


def control_types(config: DiffusionConfig) -> tuple[ControlType, ...]:
    """Kinds of controls, in the order in which they are defined."""
    found = networks(config)
    return tuple(kind for kind in ControlType if kind in found)


def max_controls(config: DiffusionConfig) -> int:
    """Most controls in one task; 0 where there are none."""
    return config.max_controls if networks(config) else 0


def features(config: DiffusionConfig) -> frozenset[ImageFeature]:
    """What controls add to an engine's features."""
    found = set()
    if networks(config):
        found.add(ImageFeature.CONTROLNET)
    if preprocessed_types(config):
        found.add(ImageFeature.CONTROL_PREPROCESSING)
    return frozenset(found)


def _tiny(config: DiffusionConfig) -> Mapping[str, object]:
    if config.model != TINY:
        return {}
    try:
        import atelier_tiny  # noqa: PLC0415  (only this model needs the package)
    except ImportError:  # said when the model itself is looked for
        return {}
    found: Mapping[str, object] = getattr(atelier_tiny, "CONTROLNETS", {})
    return found
