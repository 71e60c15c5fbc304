"""Outlines of an image, as the ControlNet is shown them."""

import cv2
import numpy as np
from numpy.typing import NDArray

LOW, HIGH = 100, 200
"""Canny's thresholds, those that most programs use."""


def canny(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[h, w] of an sRGB image [h, w, 3]: 255 on an edge, one pixel wide, else 0."""
    return np.asarray(cv2.Canny(np.ascontiguousarray(image), LOW, HIGH), np.uint8)


def agreement(made: NDArray[np.uint8], wanted: NDArray[np.uint8], tolerance: int) -> float:
    """F1 of two edge maps: edges count as met within ``tolerance`` pixels, in all directions."""
    if not made.any() or not wanted.any():
        return 0.0
    precision = float((made & _near(wanted, tolerance)).sum() / made.sum(dtype=float))
    recall = float((wanted & _near(made, tolerance)).sum() / wanted.sum(dtype=float))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _near(edges: NDArray[np.uint8], tolerance: int) -> NDArray[np.uint8]:
    square = np.ones((2 * tolerance + 1,) * 2, np.uint8)
    return np.asarray(cv2.dilate(edges, square), np.uint8)
