"""The maps that ControlNets follow: as they were given, or computed from a photo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.controls.depth import DepthPreprocessor
from atelier_engines.diffusion.controls.edges import canny_edges
from atelier_engines.diffusion.controls.pose import PosePreprocessor
from atelier_engines.diffusion.controls.segmentation import SegmentationPreprocessor
from atelier_engines.diffusion.controls.vision_model import FILES
from atelier_engines.errors import UnsupportedError
from atelier_engines.imaging import image_from_pixels
from atelier_engines.local.weights import sources
from atelier_engines.media import Pixels
from atelier_engines.task import Control, ControlType

Preprocessor = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""A map of a photo, both (height, width, 3)."""


class ControlPreprocessor:
    """Makes maps; its models are loaded when they are first needed. For one thread at a time."""

    def __init__(self, config: DiffusionConfig, device: torch.device) -> None:
        """Find the configured models, downloaded if need be and allowed.

        Raises:
            ModelMissingError: one is absent; the text says where it was looked for.
        """
        self._device = device
        self._folders: dict[str, Path] = {
            name: sources.resolve_folder(source, FILES, download=config.download)
            for name, source in config.preprocessors.model_dump(exclude_none=True).items()
        }
        self._loaded: dict[ControlType, Preprocessor] = {ControlType.CANNY: canny_edges}

    def get_map(self, control: Control, *, width: int, height: int) -> Pixels:
        """What the control is to follow, for a picture of that size in pixels.

        A map that is ready is given back as it is, in its own size. A photo is brought to the
        picture's size first, so that lines come out as wide as ControlNets know them.

        Raises:
            UnsupportedError: no model is configured that computes such maps.
            ModelMissingError: the model is broken, or of another kind.
        """
        if not control.preprocess:
            return control.image
        preprocessor = self._preprocessor(control.type)
        photo = image_from_pixels(control.image).convert("RGB")
        if photo.size != (width, height):
            photo = photo.resize((width, height), Image.Resampling.LANCZOS)
        with torch.inference_mode():
            return Pixels(array=preprocessor(np.array(photo)))

    def _preprocessor(self, kind: ControlType) -> Preprocessor:
        if kind not in self._loaded:
            self._loaded[kind] = self._load(kind)
        return self._loaded[kind]

    def _load(self, kind: ControlType) -> Preprocessor:
        match kind:
            case ControlType.CANNY:
                return canny_edges
            case ControlType.DEPTH:
                return DepthPreprocessor(self._folder(kind), self._device)
            case ControlType.POSE:
                return PosePreprocessor(
                    self._folder(kind), self._folders.get("people"), self._device
                )
            case ControlType.SEGMENTATION:
                return SegmentationPreprocessor(self._folder(kind), self._device)
            case _:
                assert_never(kind)

    def _folder(self, kind: ControlType) -> Path:
        found = self._folders.get(kind.value)
        if found is None:
            raise UnsupportedError(
                "controls",
                f"this engine computes no {kind.value} map from a photo: give the map itself, or "
                f"have `preprocessors.{kind.value}` name a model in the engine's configuration",
            )
        return found
