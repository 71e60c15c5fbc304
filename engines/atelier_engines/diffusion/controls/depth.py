"""Estimates depth maps from photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForDepthEstimation

from atelier_engines.diffusion.controls import vision_model
from atelier_engines.errors import TaskFailedError

_IN_METRES = ("glpn", "zoedepth")
"""Models that predict the distance; others predict its inverse."""


class DepthPreprocessor:
    """Computes depth maps."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Load the model in a directory.

        Raises:
            ModelMissingError: it does not estimate depth.
        """
        self._vision = vision_model.load(AutoModelForDepthEstimation, folder, device)
        settings = self._vision.model.config
        self._in_metres = (
            settings.model_type in _IN_METRES
            or getattr(settings, "depth_estimation_type", "relative") == "metric"
        )

    def __call__(self, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Compute the depth map, (height, width, 3): the nearest point is white, the farthest black.

        Source of the scaling: diffusers' documentation of ControlNets for depth (0.42.1).
        """
        inputs = self._vision.processor(images=photo, return_tensors="pt").to(self._vision.device)
        found = self._vision.model(**inputs).predicted_depth.float()
        found = torch.nn.functional.interpolate(
            found[:, None], size=photo.shape[:2], mode="bicubic", align_corners=False
        )[0, 0]
        if self._in_metres:
            found = 1 / found.clamp(min=1e-3)
        if not torch.isfinite(found).all():
            raise TaskFailedError(
                "the depth preprocessor produced NaN or infinity; supply a map, or another image"
            )
        span = found.max() - found.min()
        scaled = (found - found.min()) / span if span > 0 else torch.zeros_like(found)
        grey = (scaled * 255).round().to(torch.uint8).cpu().numpy()
        return np.repeat(grey[:, :, None], 3, axis=2)
