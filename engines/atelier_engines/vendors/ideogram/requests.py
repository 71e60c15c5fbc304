"""From a task to what is sent to Ideogram, one request a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from atelier_engines.errors import InvalidTaskError
from atelier_engines.media import Pixels
from atelier_engines.task import JSON, ImageTask
from atelier_engines.vendors.client import FormPart, RequestContent
from atelier_engines.vendors.ideogram.config import IdeogramConfig, IdeogramOptions
from atelier_engines.vendors.ideogram.sizes import nearest
from atelier_engines.vendors.images import encode_png, resize_mask_to_cover, resize_to_cover
from atelier_engines.vendors.options import parse_options

_SEEDS = 2**31
_HEAVIEST = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What all requests of one task have in common."""

    path: str
    """Below the base URL."""
    fields: Mapping[str, str | int]
    """Of the form, or of the JSON object when there are no files."""
    files: tuple[FormPart, ...] = ()
    """Pictures."""

    def content_for(self, seed: int) -> RequestContent:
        """One request. The service knows 31 bits of the seed."""
        fields = {**self.fields, "seed": seed % _SEEDS}
        if not self.files:
            body: Mapping[str, JSON] = fields
            return {"json": body}
        return {
            "data": {name: str(value) for name, value in fields.items()},
            "files": self.files,
        }


def order_of(task: ImageTask, config: IdeogramConfig) -> Order:
    """What to send for the task; blocks while pictures are encoded.

    Raises:
        InvalidTaskError: an option has a value that it cannot have, or there is a negative prompt
            beside a mask, which the service takes only without.
    """
    fields = _style(parse_options(task, IdeogramOptions), config) | {"prompt": task.prompt}
    if task.mask is not None and task.init_image is not None:
        return _inpaint(task, task.init_image, task.mask, fields)
    width, height = nearest(task.width, task.height)
    fields |= {"resolution": f"{width}x{height}"}
    if task.negative_prompt:
        fields |= {"negative_prompt": task.negative_prompt}
    if task.init_image is None:
        return Order(path="/v1/ideogram-v3/generate", fields=fields)
    weight = min(max(round((1 - task.strength) * _HEAVIEST), 1), _HEAVIEST)
    return Order(
        path="/v1/ideogram-v3/remix",
        fields=fields | {"image_weight": weight},
        files=(_file("image", resize_to_cover(task.init_image, width, height)),),
    )


def _inpaint(
    task: ImageTask, image: Pixels, mask: Pixels, fields: Mapping[str, str | int]
) -> Order:
    if task.negative_prompt:
        msg = "leave negative_prompt out: ideogram takes none together with a mask"
        raise InvalidTaskError("negative_prompt", msg)
    width, height = nearest(task.width, task.height)
    repainted = resize_mask_to_cover(mask, width, height).array
    return Order(
        path="/v1/ideogram-v3/inpaint",
        fields=fields,
        files=(
            _file("image", resize_to_cover(image, width, height)),
            _file("mask", Pixels(array=np.subtract(255, repainted))),  # theirs is black there
        ),
    )


def _style(options: IdeogramOptions, config: IdeogramConfig) -> dict[str, str | int]:
    style: dict[str, str | int] = {
        "rendering_speed": options.rendering_speed or config.rendering_speed,
        "magic_prompt": options.magic_prompt or config.magic_prompt,
        "num_images": 1,
    }
    if options.style_type is not None:
        style["style_type"] = options.style_type
    if options.style_preset is not None:
        style["style_preset"] = options.style_preset
    return style


def _file(name: str, pixels: Pixels) -> FormPart:
    return name, (f"{name}.png", encode_png(pixels), "image/png")
