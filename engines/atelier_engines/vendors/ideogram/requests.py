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
from atelier_engines.vendors.ideogram.sizes import nearest_size
from atelier_engines.vendors.options import options_of
from atelier_engines.vendors.pictures import filled, filled_mask, png_from_pixels

_SEED_RANGE = 2**31
_MAX_IMAGE_WEIGHT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """What all requests of one task have in common."""

    path: str
    """Below the base URL."""
    fields: Mapping[str, str | int]
    """Of the form, or of the JSON object when there are no files."""
    files: tuple[FormPart, ...] = ()
    """Pictures."""

    def build_content(self, seed: int) -> Content:
        """One request. The service knows 31 bits of the seed."""
        fields = {**self.fields, "seed": seed % _SEED_RANGE}
        if not self.files:
            body: Mapping[str, JSON] = fields
            return {"json": body}
        return {
            "data": {name: str(value) for name, value in fields.items()},
            "files": self.files,
        }


def build_request(task: ImageTask, config: IdeogramConfig) -> ImageRequest:
    """What to send for the task; blocks while pictures are encoded.

    Raises:
        InvalidTaskError: an option has a value that it cannot have, or there is a negative prompt
            beside a mask, which the service takes only without.
    """
    fields = _style_fields(options_of(task, IdeogramOptions), config) | {"prompt": task.prompt}
    if task.mask is not None and task.init_image is not None:
        return _build_inpaint_request(task, task.init_image, task.mask, fields)
    width, height = nearest_size(task.width, task.height)
    fields |= {"resolution": f"{width}x{height}"}
    if task.negative_prompt:
        fields |= {"negative_prompt": task.negative_prompt}
    if task.init_image is None:
        return ImageRequest(path="/v1/ideogram-v3/generate", fields=fields)
    weight = min(max(round((1 - task.strength) * _MAX_IMAGE_WEIGHT), 1), _MAX_IMAGE_WEIGHT)
    return ImageRequest(
        path="/v1/ideogram-v3/remix",
        fields=fields | {"image_weight": weight},
        files=(_png_part("image", filled(task.init_image, width, height)),),
    )


def _build_inpaint_request(
    task: ImageTask, image: Pixels, mask: Pixels, fields: Mapping[str, str | int]
) -> ImageRequest:
    if task.negative_prompt:
        msg = "leave negative_prompt out: ideogram takes none together with a mask"
        raise InvalidTaskError("negative_prompt", msg)
    width, height = nearest_size(task.width, task.height)
    repainted = filled_mask(mask, width, height).array
    return ImageRequest(
        path="/v1/ideogram-v3/inpaint",
        fields=fields,
        files=(
            _png_part("image", filled(image, width, height)),
            _png_part("mask", Pixels(array=np.subtract(255, repainted))),  # theirs is black there
        ),
    )


def _style_fields(options: IdeogramOptions, config: IdeogramConfig) -> dict[str, str | int]:
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


def _png_part(name: str, pixels: Pixels) -> Part:
    return name, (f"{name}.png", png_from_pixels(pixels), "image/png")
