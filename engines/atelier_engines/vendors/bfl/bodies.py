"""From a task to the bodies of its jobs, one a seed."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from atelier_engines.media import Pixels
from atelier_engines.task import JSON, ImageTask
from atelier_engines.vendors.bfl.config import BflConfig
from atelier_engines.vendors.bfl.models import FILL, MODELS, RATIOS, Facts
from atelier_engines.vendors.images import encode_png, resize_mask_to_cover, resize_to_cover
from atelier_engines.vendors.options import parse_options

_SEEDS = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is sent for one task."""

    path: str
    """Below the base URL; names the model."""
    body: dict[str, JSON]
    """What all its jobs have in common."""

    def body_for(self, seed: int) -> dict[str, JSON]:
        """The body of one job. The service knows 31 bits of the seed."""
        return {**self.body, "seed": seed % _SEEDS}


def order_of(task: ImageTask, config: BflConfig) -> Order:
    """What to send for the task; blocks while pictures are encoded.

    Raises:
        InvalidTaskError: an option is unknown or has a value that it cannot have.
    """
    facts = MODELS[config.model]
    options = parse_options(task, facts.options).model_dump(exclude_none=True)
    body: dict[str, JSON] = {"prompt": task.prompt, "output_format": config.output_format}
    if config.safety_tolerance is not None:
        body["safety_tolerance"] = config.safety_tolerance
    if task.mask is not None and task.init_image is not None:
        return Order(path=f"/v1/{FILL}", body=body | _repainting(task, task.init_image, task.mask))
    if task.steps is not None:
        body["steps"] = task.steps
    if task.guidance is not None:
        body["guidance"] = task.guidance
    return Order(
        path=f"/v1/{config.model}", body=body | options | _size(task, facts) | _start(task, facts)
    )


def nearest_ratio(width: int, height: int) -> str:
    """The aspect ratio in the service's spelling that is nearest to that of the size."""

    def apart(ratio: tuple[int, int]) -> float:
        quotient = width * ratio[1] / (height * ratio[0])
        return max(quotient, 1 / quotient)

    across, down = min(RATIOS, key=apart)
    return f"{across}:{down}"


def _size(task: ImageTask, facts: Facts) -> dict[str, JSON]:
    if facts.shaped:
        return {"aspect_ratio": nearest_ratio(task.width, task.height)}
    return {"width": task.width, "height": task.height}


def _start(task: ImageTask, facts: Facts) -> dict[str, JSON]:
    if task.init_image is None:
        return {}
    fields: dict[str, JSON] = {
        facts.start: _base64(resize_to_cover(task.init_image, task.width, task.height))
    }
    if facts.start_weight:
        fields[facts.start_weight] = round(1.0 - task.strength, 4)
    return fields


def _repainting(task: ImageTask, image: Pixels, mask: Pixels) -> dict[str, JSON]:
    return {
        "image": _base64(resize_to_cover(image, task.width, task.height)),
        "mask": _base64(resize_mask_to_cover(mask, task.width, task.height)),
    }


def _base64(pixels: Pixels) -> str:
    return base64.b64encode(encode_png(pixels)).decode("ascii")
