"""Builds the request bodies of a task's jobs at fal, one a seed."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from atelier_engines.media import Pixels
from atelier_engines.options import parse_options
from atelier_engines.task import JSON, ImageTask, Lora, SafetyMode
from atelier_engines.vendors.comfy_workflows import WorkflowSet
from atelier_engines.vendors.endpoints import select_endpoint
from atelier_engines.vendors.fal.config import FalConfig
from atelier_engines.vendors.fal.models import (
    MODELS,
    FalOptions,
    FalPriority,
    ModelSpec,
    WorkflowRunOptions,
)
from atelier_engines.vendors.images import encode_png, resize_mask_to_cover, resize_to_cover

ImageUrls = Mapping[str, str]
"""URLs of the images that a job needs, by the names of the images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """The requests of one task."""

    path: str
    """Path below the base URL: the model or app."""
    images: Mapping[str, bytes]
    """PNG files that the jobs need, by name."""
    body: Callable[[int, ImageUrls], dict[str, JSON]]
    """Builds the body of the job for one seed."""
    priority: FalPriority | None
    """Priority of the jobs; None for the service's default."""


def build_payload(task: ImageTask, config: FalConfig, workflows: WorkflowSet | None) -> Payload:
    """Build the requests of the task; blocks while images are encoded.

    Raises:
        InvalidTaskError: an option is unknown or has an invalid value.
    """
    if workflows is not None and config.comfy is not None:
        return _workflow_payload(task, config, workflows)
    return _model_payload(task, config)


def _workflow_payload(task: ImageTask, config: FalConfig, workflows: WorkflowSet) -> Payload:
    options = parse_options(task, WorkflowRunOptions)
    prepared = workflows.prepare(task, prefix=f"atelier_{uuid.uuid4().hex}")

    def body(seed: int, urls: ImageUrls) -> dict[str, JSON]:
        images: list[JSON] = [{"name": name, "url": url} for name, url in urls.items()]
        return {"workflow": prepared.build_graph(seed), "images": images}

    return Payload(
        path=f"/{select_endpoint(options, config.endpoints)}",
        images=prepared.images,
        body=body,
        priority=options.priority or config.priority,
    )


def _model_payload(task: ImageTask, config: FalConfig) -> Payload:
    spec = MODELS[config.model]
    options = parse_options(task, spec.options)
    common = _common_fields(task, config, spec, options)

    def body(seed: int, urls: ImageUrls) -> dict[str, JSON]:
        return {**common, **urls, "seed": seed}

    return Payload(
        path=_path(task, select_endpoint(options, config.endpoints)),
        images=_encode_images(task),
        body=body,
        priority=options.priority or config.priority,
    )


def _path(task: ImageTask, model: str) -> str:
    if task.mask is not None:
        return f"/{model}/inpainting"
    return f"/{model}" if task.init_image is None else f"/{model}/image-to-image"


def _common_fields(
    task: ImageTask, config: FalConfig, spec: ModelSpec, options: FalOptions
) -> dict[str, JSON]:
    body: dict[str, JSON] = {
        "prompt": task.prompt,
        "image_size": {"width": task.width, "height": task.height},
        "num_inference_steps": str(task.steps) if spec.steps_as_text else task.steps,
        "num_images": 1,
        "format": config.output_format,
        "enable_safety_checker": (task.safety_mode or config.safety) is not SafetyMode.OFF,
        **options.model_dump(exclude_none=True, exclude={"endpoint", "priority"}),
    }
    if task.negative_prompt:
        body["negative_prompt"] = task.negative_prompt
    if task.guidance is not None:
        body["guidance_scale"] = task.guidance
    if task.loras:
        body["loras"] = [_lora(lora, config) for lora in task.loras]
    if task.init_image is not None:
        body["strength"] = task.strength
    return body


def _lora(lora: Lora, config: FalConfig) -> JSON:
    return {"path": config.loras[lora.name], "scale": lora.weight}


def _encode_images(task: ImageTask) -> dict[str, bytes]:
    sent: dict[str, Pixels] = {}
    if task.init_image is not None:
        sent["image_url"] = resize_to_cover(task.init_image, task.width, task.height)
    if task.mask is not None:
        sent["mask_url"] = resize_mask_to_cover(task.mask, task.width, task.height)
    return {name: encode_png(pixels) for name, pixels in sent.items()}
