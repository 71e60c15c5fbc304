"""The control types that a configuration offers, without loading anything."""

from __future__ import annotations

from collections.abc import Mapping

from atelier_engines.capabilities import ImageFeature
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.weights_config import TINY
from atelier_engines.task import ControlType


def networks(config: DiffusionConfig) -> Mapping[ControlType, str]:
    """The source of the ControlNet of each type; those of the small model come with it."""
    found = {ControlType(kind): str(path) for kind, path in _tiny(config).items()}
    return {**found, **config.controlnets}


def preprocessed_types(config: DiffusionConfig) -> frozenset[ControlType]:
    """The control types whose map can be computed from a photo."""
    named = {
        ControlType.CANNY: True,
        ControlType.DEPTH: config.preprocessors.depth is not None,
        ControlType.POSE: config.preprocessors.pose is not None,
        ControlType.SEGMENTATION: config.preprocessors.segmentation is not None,
    }
    return frozenset(kind for kind in networks(config) if named[kind])


def control_types(config: DiffusionConfig) -> tuple[ControlType, ...]:
    """The control types, in the order in which they are defined."""
    found = networks(config)
    return tuple(kind for kind in ControlType if kind in found)


def max_controls(config: DiffusionConfig) -> int:
    """Maximum number of controls in one task; 0 where there are none."""
    return config.max_controls if networks(config) else 0


def features(config: DiffusionConfig) -> frozenset[ImageFeature]:
    """The features that controls add to an engine."""
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
