"""How people stand in a photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForObjectDetection, VitPoseForPoseEstimation

from atelier_engines.diffusion.controls import skeleton, vision
from atelier_engines.diffusion.controls.skeleton import Joint, Person
from atelier_engines.errors import ModelMissingError

_COCO_JOINTS = 17
_SEEN = 0.3
"""Joints that are less certain are left out."""
_FOUND = 0.5
"""People that are less certain are left out."""

Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels."""


class Pose:
    """Finds people and their joints, and draws them as OpenPose does."""

    def __init__(self, folder: Path, people: Path | None, device: torch.device) -> None:
        """Load the models in two directories.

        Args:
            folder: of the model that finds the joints of one person.
            people: of the one that finds people; None to take the photo for one person.
            device: where they compute.

        Raises:
            ModelMissingError: one of them is of another kind.
        """
        self._joints = vision.load(VitPoseForPoseEstimation, folder, device)
        count = self._joints.model.config.num_labels
        if count != _COCO_JOINTS:
            raise ModelMissingError(
                f"the preprocessor {folder} knows {count} joints; one trained on COCO knows "
                f"{_COCO_JOINTS}"
            )
        self._people = None
        if people is not None:
            self._people = vision.load(AutoModelForObjectDetection, people, device)

    def __call__(self, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(height, width, 3): skeletons on black; nothing but black where nobody is."""
        height, width = photo.shape[:2]
        boxes = self._boxes(photo)
        people = self._people_in(photo, boxes) if boxes else []
        return skeleton.drawn(people, width=width, height=height)

    def _boxes(self, photo: NDArray[np.uint8]) -> list[Box]:
        height, width = photo.shape[:2]
        if self._people is None:
            return [(0.0, 0.0, float(width), float(height))]
        vision_of_people = self._people
        inputs = vision_of_people.processor(images=photo, return_tensors="pt")
        (found,) = vision_of_people.processor.post_process_object_detection(
            vision_of_people.model(**inputs.to(vision_of_people.device)),
            threshold=_FOUND,
            target_sizes=[(height, width)],
        )
        names = vision_of_people.model.config.id2label
        return [
            (left, top, right - left, bottom - top)
            for (left, top, right, bottom), label in zip(
                found["boxes"].tolist(), found["labels"].tolist(), strict=True
            )
            if names.get(label) == "person" and right > left and bottom > top
        ]

    def _people_in(self, photo: NDArray[np.uint8], boxes: list[Box]) -> list[Person]:
        where = [[list(box) for box in boxes]]
        inputs = self._joints.processor(images=photo, boxes=where, return_tensors="pt")
        inputs = inputs.to(self._joints.device)
        if self._joints.model.config.backbone_config.num_experts > 1:
            inputs["dataset_index"] = torch.zeros(len(boxes), dtype=torch.int64)  # COCO's expert
        (found,) = self._joints.processor.post_process_pose_estimation(
            self._joints.model(**inputs), boxes=where
        )
        return [skeleton.person_of(_seen(person)) for person in found]


def _seen(person: dict[str, Any]) -> list[Joint | None]:
    """COCO's joints of what transformers found, without the uncertain ones."""
    pairs = zip(person["keypoints"].tolist(), person["scores"].tolist(), strict=True)
    return [(x, y) if score > _SEEN else None for (x, y), score in pairs]
