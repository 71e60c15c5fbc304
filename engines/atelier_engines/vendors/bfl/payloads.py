"""Builds the request bodies of a task's jobs at Black Forest Labs, one a seed."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from atelier_engines.errors import InvalidTaskError
from atelier_engines.media import Pixels
from atelier_engines.options import parse_options
from atelier_engines.task import JSON, ImageTask
from atelier_engines.vendors.bfl.config import BflConfig
from atelier_engines.vendors.bfl.models import (
    ASPECT_RATIOS,
    FILL,
    FILL_OPTIONS,
    MODELS,
    ModelSpec,
)
from atelier_engines.vendors.images import encode_png, resize_mask_to_cover, resize_to_cover


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """The requests of one task."""

    path: str
    """Path below the base URL: the model."""
    body: dict[str, JSON]
    """Fields that all jobs of the task share."""

    def body_for(self, seed: int) -> dict[str, JSON]:
        """The body of the job for one seed."""
        return {**self.body, "seed": seed}


def build_payload(task: ImageTask, config: BflConfig) -> Payload:
    """Build the requests of the task; blocks while images are encoded.

    Raises:
        InvalidTaskError: an option is unknown, has an invalid value, or cannot be used with a mask.
    """
    spec = MODELS[config.model]
    options = _read_options(task, spec, config)
    body: dict[str, JSON] = {"prompt": task.prompt, "output_format": config.output_format}
    if config.safety_tolerance is not None:
        body["safety_tolerance"] = config.safety_tolerance
    if task.mask is not None and task.init_image is not None:
        _require_fill_options(options)
        images = _inpaint_fields(task, task.init_image, task.mask)
        return Payload(path=f"/v1/{FILL}", body=body | options | images)
    if task.steps is not None:
        body["steps"] = task.steps
    if task.guidance is not None:
        body["guidance"] = task.guidance
    return Payload(
        path=f"/v1/{config.model}",
        body=body | options | _size_fields(task, spec) | _init_image_fields(task, spec),
    )


def _read_options(task: ImageTask, spec: ModelSpec, config: BflConfig) -> dict[str, JSON]:
    options = parse_options(task, spec.options)
    tolerance, allowed = options.safety_tolerance, config.max_safety_tolerance
    if tolerance is not None and tolerance > allowed:
        msg = f"options.safety_tolerance must be at most {allowed}, not {tolerance}"
        raise InvalidTaskError("options.safety_tolerance", msg)
    return options.model_dump(exclude_none=True)


def nearest_ratio(width: int, height: int) -> str:
    """The supported aspect ratio that is nearest to that of the size, as `16:9`."""

    def distance(ratio: tuple[int, int]) -> float:
        quotient = width * ratio[1] / (height * ratio[0])
        return max(quotient, 1 / quotient)

    horizontal, vertical = min(ASPECT_RATIOS, key=distance)
    return f"{horizontal}:{vertical}"


def _size_fields(task: ImageTask, spec: ModelSpec) -> dict[str, JSON]:
    if spec.takes_aspect_ratio:
        return {"aspect_ratio": nearest_ratio(task.width, task.height)}
    return {"width": task.width, "height": task.height}


def _init_image_fields(task: ImageTask, spec: ModelSpec) -> dict[str, JSON]:
    if task.init_image is None:
        return {}
    fields: dict[str, JSON] = {
        spec.image_field: _encode_base64(resize_to_cover(task.init_image, task.width, task.height))
    }
    if spec.image_weight_field:
        fields[spec.image_weight_field] = round(1.0 - task.strength, 4)
    return fields


def _require_fill_options(options: Mapping[str, JSON]) -> None:
    for name in options.keys() - FILL_OPTIONS:
        msg = f"omit options.{name} with a mask: {FILL}, which inpaints, does not take it"
        raise InvalidTaskError(f"options.{name}", msg)


def _inpaint_fields(task: ImageTask, image: Pixels, mask: Pixels) -> dict[str, JSON]:
    return {
        "image": _encode_base64(resize_to_cover(image, task.width, task.height)),
        "mask": _encode_base64(resize_mask_to_cover(mask, task.width, task.height)),
    }


def _encode_base64(pixels: Pixels) -> str:
    return base64.b64encode(encode_png(pixels)).decode("ascii")
