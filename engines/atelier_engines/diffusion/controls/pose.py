"""Estimates the poses of people in photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForObjectDetection, VitPoseForPoseEstimation

from atelier_engines.diffusion.controls import openpose_drawing, pose_crop, vision_model
from atelier_engines.diffusion.controls.openpose_drawing import Person
from atelier_engines.diffusion.controls.pose_crop import Box
from atelier_engines.errors import ModelMissingError

_COCO_JOINTS = 17
_MIN_SCORE = 0.5
"""People with a lower score are left out."""


class PosePreprocessor:
    """Computes pose maps: detects people and their joints, and draws them as OpenPose does."""

    def __init__(self, folder: Path, people: Path | None, device: torch.device) -> None:
        """Load the models in two directories.

        Args:
            folder: of the model that estimates the joints of one person.
            people: of the model that detects people; None to assume that the photo shows one person.
            device: where they run.

        Raises:
            ModelMissingError: one of them is another kind of model.
        """
        self._joints = vision_model.load(VitPoseForPoseEstimation, folder, device)
        count = self._joints.model.config.num_labels
        if count != _COCO_JOINTS:
            raise ModelMissingError(
                f"the preprocessor {folder} has {count} joints; a model trained on COCO has "
                f"{_COCO_JOINTS}"
            )
        self._people = None
        if people is not None:
            self._people = vision_model.load(AutoModelForObjectDetection, people, device)

    def __call__(self, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Compute the pose map, (height, width, 3): skeletons on black; all black without people."""
        height, width = photo.shape[:2]
        boxes = self._boxes(photo)
        people = self._people_in(photo, boxes) if boxes else []
        return openpose_drawing.draw_poses(people, width=width, height=height)

    def _boxes(self, photo: NDArray[np.uint8]) -> list[Box]:
        height, width = photo.shape[:2]
        if self._people is None:
            return [(0.0, 0.0, float(width), float(height))]
        model, processor = self._people.model, self._people.processor
        inputs = processor(images=photo, return_tensors="pt").to(self._people.device)
        (found,) = processor.post_process_object_detection(
            model(**inputs),
            threshold=_MIN_SCORE,
            target_sizes=[(height, width)],
        )
        names = model.config.id2label
        return [
            (left, top, right - left, bottom - top)
            for (left, top, right, bottom), label in zip(
                found["boxes"].tolist(), found["labels"].tolist(), strict=True
            )
            if names.get(label) == "person" and right > left and bottom > top
        ]

    def _people_in(self, photo: NDArray[np.uint8], boxes: list[Box]) -> list[Person]:
        model, processor = self._joints.model, self._joints.processor
        size = (processor.size["width"], processor.size["height"])
        frames = [pose_crop.expand_box(box, size[0] / size[1]) for box in boxes]
        cuts = (
            np.stack([pose_crop.crop(photo, frame, size) for frame in frames]).astype(np.float32)
            / 255
        )
        normal = (cuts - np.array(processor.image_mean)) / np.array(processor.image_std)
        inputs = {"pixel_values": torch.from_numpy(normal.transpose(0, 3, 1, 2)).float()}
        if model.config.backbone_config.num_experts > 1:
            inputs["dataset_index"] = torch.zeros(len(boxes), dtype=torch.int64)  # COCO's expert
        device = self._joints.device
        heat = model(**{name: tensor.to(device) for name, tensor in inputs.items()}).heatmaps
        found = zip(heat.float().cpu().numpy(), frames, strict=True)
        return [
            openpose_drawing.person_from_coco([pose_crop.locate_joint(one, frame) for one in maps])
            for maps, frame in found
        ]
