"""Computes segmentation maps from photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSemanticSegmentation

from atelier_engines.diffusion.controls import vision_model
from atelier_engines.diffusion.controls.ade20k_palette import ADE20K
from atelier_engines.errors import ModelMissingError


class SegmentationPreprocessor:
    """Computes segmentation maps with the classes of ADE20K."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Load the model in a directory.

        Raises:
            ModelMissingError: it does not have the 150 classes of ADE20K.
        """
        self._vision = vision_model.load(AutoModelForSemanticSegmentation, folder, device)
        count = self._vision.model.config.num_labels
        if count != len(ADE20K):
            raise ModelMissingError(
                f"the preprocessor {folder} has {count} classes; a model trained on ADE20K has "
                f"{len(ADE20K)}"
            )

    def __call__(self, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Compute the segmentation map, (height, width, 3): each segment in the colour of its class."""
        inputs = self._vision.processor(images=photo, return_tensors="pt").to(self._vision.device)
        (classes,) = self._vision.processor.post_process_semantic_segmentation(
            self._vision.model(**inputs), target_sizes=[photo.shape[:2]]
        )
        coloured: NDArray[np.uint8] = ADE20K[classes.cpu().numpy()]
        return coloured
