"""Draws poses as OpenPose does, which pose ControlNets were trained on.

Joints are numbered as OpenPose numbers the 18 of its COCO model: nose, neck, right shoulder, elbow
and wrist, the left ones, right hip, knee and ankle, the left ones, right and left eye, right and
left ear. Source: CMU-Perceptual-Computing-Lab/openpose, doc/02_output.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

JOINTS = 18
NECK = 1
SHOULDERS = (2, 5)

FROM_COCO = (0, None, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
"""The index of each joint among COCO's 17; the neck is not one of them, it is between the shoulders.

Source: COCO, the keypoint names in its annotations: nose, left and right eye, ear, shoulder, elbow,
wrist, hip, knee, ankle.
"""

LIMBS = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7)),
    *((1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13)),
    *((1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),
)
"""Pairs of joints, in the order in which limbs are drawn."""

_HALF_WIDTH = 4
_REFERENCE_PIXELS = 512
"""Limbs are 8 pixels wide in images of this height, and joints are as large."""
_LIMB_BRIGHTNESS = 0.6
"""Source of these and of the limbs: lllyasviel/ControlNet, annotator/openpose/util.py."""

Joint = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """The joints of one person."""

    joints: tuple[Joint | None, ...]
    """x and y in pixels of each of the 18 joints; None for those that are not visible."""


def colour(index: int) -> tuple[int, int, int]:
    """RGB colour of a joint, and of the limb of that number: hues 20 degrees apart."""
    hue = index * 20
    sixth, within = divmod(hue, 60)
    rising, falling = round(255 * within / 60), round(255 * (60 - within) / 60)
    return (
        (255, rising, 0),
        (falling, 255, 0),
        (0, 255, rising),
        (0, falling, 255),
        (rising, 0, 255),
        (255, 0, falling),
    )[sixth]


def person_from_coco(coco: Sequence[Joint | None]) -> Person:
    """Create a person from COCO's 17 joints."""
    joints = [None if index is None else coco[index] for index in FROM_COCO]
    right, left = (joints[shoulder] for shoulder in SHOULDERS)
    if right is not None and left is not None:
        joints[NECK] = ((right[0] + left[0]) / 2, (right[1] + left[1]) / 2)
    return Person(joints=tuple(joints))


def draw_poses(people: Sequence[Person], *, width: int, height: int) -> NDArray[np.uint8]:
    """Draw people on black, (height, width, 3), limbs first and joints over them."""
    canvas = np.zeros((height, width, 3), np.uint8)
    half = max(1, round(_HALF_WIDTH * min(width, height) / _REFERENCE_PIXELS))
    for index, limb in enumerate(LIMBS):
        shade = tuple(int(part * _LIMB_BRIGHTNESS) for part in colour(index))
        for person in people:
            first, second = (person.joints[joint] for joint in limb)
            if first is not None and second is not None:
                cv2.fillConvexPoly(canvas, _limb(first, second, half), shade)
    for index in range(JOINTS):
        for person in people:
            joint = person.joints[index]
            if joint is not None:
                cv2.circle(canvas, _to_pixel(joint), half, colour(index), thickness=-1)
    return canvas


def _limb(first: Joint, second: Joint, half: int) -> NDArray[np.int32]:
    """The outline of an ellipse from joint to joint."""
    middle = ((first[0] + second[0]) / 2, (first[1] + second[1]) / 2)
    across, down = second[0] - first[0], second[1] - first[1]
    axes = (int(math.hypot(across, down) / 2), half)
    angle = int(math.degrees(math.atan2(down, across)))
    return np.asarray(cv2.ellipse2Poly(_to_pixel(middle), axes, angle, 0, 360, 1), np.int32)


def _to_pixel(point: Joint) -> tuple[int, int]:
    return int(point[0]), int(point[1])
