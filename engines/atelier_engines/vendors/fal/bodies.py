"""From a task to the bodies of its jobs, one a seed."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from atelier_engines.media import Pixels
from atelier_engines.task import JSON, ImageTask, Lora, SafetyMode
from atelier_engines.vendors.comfy_workflows import WorkflowSet
from atelier_engines.vendors.fal.config import FalConfig
from atelier_engines.vendors.fal.models import MODELS, Facts
from atelier_engines.vendors.images import encode_png, resize_mask_to_cover, resize_to_cover
from atelier_engines.vendors.options import parse_options

_SEEDS = 2**32

Addresses = Mapping[str, str]
"""Where each picture that a job needs can be had, by the picture's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is sent for one task."""

    path: str
    """Below the base URL; names the model or app."""
    pictures: Mapping[str, bytes]
    """PNG files that the jobs need, by name."""
    body: Callable[[int, Addresses], dict[str, JSON]]
    """The body of the job for one seed."""


def order_of(task: ImageTask, config: FalConfig, graphs: WorkflowSet | None) -> Order:
    """What to send for the task; blocks while pictures are encoded.

    Raises:
        InvalidTaskError: an option is unknown or has a value that it cannot have.
    """
    if graphs is not None and config.comfy is not None:
        return _graph_order(task, graphs, config.comfy.endpoint)
    return _model_order(task, config)


def _graph_order(task: ImageTask, graphs: WorkflowSet, endpoint: str) -> Order:
    order = graphs.prepare(task, prefix=f"atelier_{uuid.uuid4().hex}")

    def body(seed: int, addresses: Addresses) -> dict[str, JSON]:
        images: list[JSON] = [{"name": name, "url": url} for name, url in addresses.items()]
        return {"workflow": order.build_graph(seed), "images": images}

    return Order(path=f"/{endpoint}", pictures=order.images, body=body)


def _model_order(task: ImageTask, config: FalConfig) -> Order:
    facts = MODELS[config.model]
    common = _common(task, config, facts)

    def body(seed: int, addresses: Addresses) -> dict[str, JSON]:
        return {**common, **addresses, "seed": seed % _SEEDS}

    return Order(path=_path(task, config.model), pictures=_pictures(task), body=body)


def _path(task: ImageTask, model: str) -> str:
    if task.mask is not None:
        return f"/{model}/inpainting"
    return f"/{model}" if task.init_image is None else f"/{model}/image-to-image"


def _common(task: ImageTask, config: FalConfig, facts: Facts) -> dict[str, JSON]:
    options = parse_options(task, facts.options).model_dump(exclude_none=True)
    body: dict[str, JSON] = {
        "prompt": task.prompt,
        "image_size": {"width": task.width, "height": task.height},
        "num_inference_steps": str(task.steps) if facts.steps_as_text else task.steps,
        "num_images": 1,
        "format": config.output_format,
        "enable_safety_checker": (task.safety_mode or config.safety) is not SafetyMode.OFF,
        **options,
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


def _pictures(task: ImageTask) -> dict[str, bytes]:
    sent: dict[str, Pixels] = {}
    if task.init_image is not None:
        sent["image_url"] = resize_to_cover(task.init_image, task.width, task.height)
    if task.mask is not None:
        sent["mask_url"] = resize_mask_to_cover(task.mask, task.width, task.height)
    return {name: encode_png(pixels) for name, pixels in sent.items()}
