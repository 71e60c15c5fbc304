"""Crops of people from photos, as pose models take them, and the coordinates of joints in the photo."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from atelier_engines.diffusion.controls.openpose_drawing import Joint

Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels."""

MIN_CONFIDENCE = 0.3
"""Joints of a lower or equal confidence are left out."""
MARGIN = 1.25
"""Factor by which the crop is larger than the box around a person."""


def expand_box(box: Box, aspect: float) -> Box:
    """Expand a box by a quarter and to that aspect ratio, as in the model's training.

    Source: "ViTPose" (arXiv 2204.12484) and the top-down data of MMPose that it uses.
    """
    left, top, width, height = box
    middle = (left + width / 2, top + height / 2)
    wide, high = max(width, height * aspect) * MARGIN, max(height, width / aspect) * MARGIN
    return middle[0] - wide / 2, middle[1] - high / 2, wide, high


def crop(photo: NDArray[np.uint8], frame: Box, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Crop the frame and resize it to a size in pixels; it is black outside of the photo."""
    left, top, wide, high = frame
    across, down = (size[0] - 1) / wide, (size[1] - 1) / high
    matrix = np.array([[across, 0, -left * across], [0, down, -top * down]])
    return np.asarray(cv2.warpAffine(photo, matrix, size), np.uint8)


def locate_joint(heat: NDArray[np.float32], frame: Box) -> Joint | None:
    """Locate a joint in the photo; None if its confidence is too low.

    Args:
        heat: heat map, (rows, columns): the confidence in each cell of the frame.
        frame: position of the frame in the photo.
    """
    y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    if heat[y, x] <= MIN_CONFIDENCE:
        return None
    rows, columns = heat.shape
    left, top, wide, high = frame
    return (
        left + (x + _refine(heat[y], int(x))) * wide / (columns - 1),
        top + (y + _refine(heat[:, x], int(y))) * high / (rows - 1),
    )


def _refine(line: NDArray[np.float32], peak: int) -> float:
    """Offset of a peak: a quarter of a cell towards the higher neighbour, since peaks lie between cells.

    Source: "Stacked Hourglass Networks" (arXiv 1603.06937), section 3.2.
    """
    if not 0 < peak < len(line) - 1:
        return 0.0
    return 0.25 * float(np.sign(line[peak + 1] - line[peak - 1]))
