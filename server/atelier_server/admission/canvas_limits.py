"""Decides what a task says about the canvas of its init image: outpainting, and inpainting of a part."""

from __future__ import annotations

from collections.abc import Mapping

from atelier.v1 import task_pb2 as pb
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_engines.media import Pixels
from atelier_server.admission.parameters import ParameterRecorder
from atelier_server.errors import InvalidRequestError, Violation

_MAX_SIDE = 16383
"""Pixels; the maximum of WebP."""
_MAX_PIXELS = 64 * 10**6


def measure_canvas(request: pb.ImageTask, init_image: Pixels) -> tuple[int, int]:
    """Width and height in pixels of the init image with what outpainting adds."""
    sides = request.outpaint
    width = init_image.width + sides.left + sides.right
    return width, init_image.height + sides.top + sides.bottom


def add_outpaint_mask(
    request: GenerateRequest, images: Mapping[str, Pixels]
) -> Mapping[str, Pixels]:
    """The images, and where a task outpaints without a mask one that marks nothing of its init image."""
    task = request.image
    if not task.HasField("outpaint") or task.HasField("mask"):
        return images
    init_image = images["init_image"]
    return {**images, "mask": Pixels(array=init_image.outline().array[:, :, :1])}


def record_canvas(
    request: pb.ImageTask, init_image: Pixels | None, recorder: ParameterRecorder
) -> None:
    """Record what the task says about the canvas.

    Raises:
        InvalidRequestError: the canvas would be too large.
    """
    if request.HasField("padding_mask_crop"):
        padding = request.padding_mask_crop
        recorder.apply_default("padding_mask_crop", padding, padding)
    if not request.HasField("outpaint") or init_image is None:
        return
    width, height = measure_canvas(request, init_image)
    if max(width, height) > _MAX_SIDE or width * height > _MAX_PIXELS:
        message = (
            f"the canvas may have at most {_MAX_PIXELS} pixels and {_MAX_SIDE} along a side, "
            f"not {width} x {height}"
        )
        raise InvalidRequestError([Violation("image.outpaint", message)])
    sides = [(side, getattr(request.outpaint, side)) for side in ("left", "top", "right", "bottom")]
    recorder.apply("outpaint", ", ".join(f"{side} {pixels}" for side, pixels in sides if pixels))
