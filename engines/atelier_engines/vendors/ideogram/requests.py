"""Builds the requests of a task, one per seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atelier_engines.errors import InvalidTaskError
from atelier_engines.media import Pixels
from atelier_engines.options import parse_options
from atelier_engines.task import JSON, ImageTask
from atelier_engines.vendors.client import FormPart, RequestContent
from atelier_engines.vendors.ideogram.config import IdeogramConfig, IdeogramOptions
from atelier_engines.vendors.ideogram.sizes import nearest_size
from atelier_engines.vendors.images import (
    encode_png,
    invert_mask,
    resize_mask_to_cover,
    resize_to_cover,
)

_MAX_IMAGE_WEIGHT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """Content that all requests of one task share."""

    path: str
    """Path of the request."""
    fields: Mapping[str, str | int]
    """Fields of the form, or of the JSON object if there are no files."""
    files: tuple[FormPart, ...] = ()
    """Image files, as parts of the form."""

    def build_content(self, seed: int) -> RequestContent:
        """Build the content of the request for one seed."""
        fields = {**self.fields, "seed": seed}
        if not self.files:
            body: Mapping[str, JSON] = fields
            return {"json": body}
        return {
            "data": {name: str(value) for name, value in fields.items()},
            "files": self.files,
        }


def build_request(task: ImageTask, config: IdeogramConfig) -> ImageRequest:
    """Build the request of the task; blocks to encode images.

    Raises:
        InvalidTaskError: an option has an invalid value, or there is both a mask and a negative prompt,
            which the service does not support together.
    """
    fields = _style_fields(parse_options(task, IdeogramOptions), config) | {"prompt": task.prompt}
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
        files=(_png_part("image", resize_to_cover(task.init_image, width, height)),),
    )


def _build_inpaint_request(
    task: ImageTask, image: Pixels, mask: Pixels, fields: Mapping[str, str | int]
) -> ImageRequest:
    if task.negative_prompt:
        msg = "omit negative_prompt: ideogram does not support it together with a mask"
        raise InvalidTaskError("negative_prompt", msg)
    width, height = nearest_size(task.width, task.height)
    inverted = invert_mask(resize_mask_to_cover(mask, width, height))
    return ImageRequest(
        path="/v1/ideogram-v3/inpaint",
        fields=fields,
        files=(
            _png_part("image", resize_to_cover(image, width, height)),
            _png_part("mask", inverted),
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


def _png_part(name: str, pixels: Pixels) -> FormPart:
    return name, (f"{name}.png", encode_png(pixels), "image/png")
