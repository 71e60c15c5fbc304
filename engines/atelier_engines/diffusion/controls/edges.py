"""Detects the edges of photos."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

LOW, HIGH = 100, 200
"""Thresholds of the gradient: an edge begins above the second and continues above the first.

Source: lllyasviel/ControlNet, gradio_canny2image.py, the defaults of its sliders.
"""


def canny_edges(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Detect edges; photo and result are (height, width, 3), edges are white and one pixel wide."""
    found = cv2.Canny(np.ascontiguousarray(photo), LOW, HIGH)
    return np.repeat(np.asarray(found, np.uint8)[:, :, None], 3, axis=2)
