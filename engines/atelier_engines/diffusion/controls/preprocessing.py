"""Control maps: as the task gives them, or computed from a photo."""

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
from atelier_engines.local.weights import sources
from atelier_engines.media import Pixels, image_from_pixels
from atelier_engines.task import Control, ControlType

Preprocessor = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Computes the control map of a photo; both are (height, width, 3)."""


class ControlPreprocessor:
    """Computes control maps; its models are loaded when they are first needed. For one thread at a time."""

    def __init__(self, config: DiffusionConfig, device: torch.device) -> None:
        """Find the configured models, and download them if needed and allowed.

        Raises:
            ModelMissingError: one is absent; the message says which places were searched.
        """
        self._device = device
        self._folders: dict[str, Path] = {
            name: sources.resolve_folder(source, FILES, download=config.download)
            for name, source in config.preprocessors.model_dump(exclude_none=True).items()
        }
        self._loaded: dict[ControlType, Preprocessor] = {ControlType.CANNY: canny_edges}

    def get_map(self, control: Control, *, width: int, height: int) -> Pixels:
        """The map of a control, for an image of that size in pixels.

        A given map is returned as it is, in its own size. A photo is resized to the image's size first, so
        that lines have the width that ControlNets are trained on.

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
                f"this engine cannot compute a {kind.value} map from a photo: send the map itself, or "
                f"set `preprocessors.{kind.value}` in the engine's configuration",
            )
        return found
