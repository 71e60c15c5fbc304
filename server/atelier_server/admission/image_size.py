"""Decides width and height of an image task: given, or of an aspect ratio, the style, init_image or the engine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from atelier.v1 import task_pb2 as pb
from atelier_engines.capabilities import ImageCapabilities, IntegerRange
from atelier_engines.media import Pixels
from atelier_server.admission.aspect_ratios import (
    Ratio,
    choose_side,
    choose_sides,
    parse_ratio,
    reject_distant,
)
from atelier_server.admission.canvas_limits import measure_canvas
from atelier_server.admission.parameters import ParameterRecorder
from atelier_server.artifacts.canvas import has_canvas
from atelier_server.config.settings import StyleSettings

_FROM_INIT_IMAGE = "not given: that of init_image"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    width: int
    height: int
    explanation: str = "not given"


def choose_size(
    request: pb.ImageTask,
    capabilities: ImageCapabilities,
    recorder: ParameterRecorder,
    style: StyleSettings,
    init_image: Pixels | None,
) -> tuple[int, int]:
    """Width and height in pixels: those of the request, of its aspect ratio, or the defaults.

    Raises:
        InvalidRequestError: the engine has no size near the aspect ratio.
    """
    default = _choose_default(request, capabilities, style, init_image)
    if request.aspect_ratio and capabilities.upscale_only:
        reason = "this engine only upscales init_image"
        recorder.ignore("aspect_ratio", request.aspect_ratio, reason)
    elif request.aspect_ratio:
        default = _choose_by_ratio(request, capabilities, recorder, style)
    width, height = _read_sides(request)
    wanted = (width or default.width, height or default.height)
    used = wanted
    native = capabilities.native_side
    if native is not None and (width or height or not request.aspect_ratio):
        usual = _fit_to_native((default.width, default.height), native)
        used = _fit_to_native((width or usual[0], height or usual[1]), native)
    for name, given, side, fitted in zip(
        ("width", "height"), (width, height), wanted, used, strict=True
    ):
        if native is not None and fitted != side:
            recorder.record_clamped(name, fitted, side, _describe_native(native))
        else:
            recorder.apply_default(name, given, side, default.explanation)
    return used


def _choose_by_ratio(
    request: pb.ImageTask,
    capabilities: ImageCapabilities,
    recorder: ParameterRecorder,
    style: StyleSettings,
) -> _Size:
    """The size of the aspect ratio, with the side that the request gives."""
    ratio = parse_ratio(request.aspect_ratio)
    width, height = _read_sides(request)
    if width is not None:
        height = choose_side(capabilities.height, width / ratio.quotient)
    elif height is not None:
        width = choose_side(capabilities.width, height * ratio.quotient)
    else:
        usual = (
            style.width or capabilities.width.default,
            style.height or capabilities.height.default,
        )
        width, height = choose_sides(capabilities, ratio, usual[0] * usual[1])
    reject_distant(ratio, width, height)
    recorder.apply("aspect_ratio", request.aspect_ratio)
    return _Size(width=width, height=height, explanation=_explain(ratio, request))


def _explain(ratio: Ratio, request: pb.ImageTask) -> str:
    """What a side follows from; that of the request is never explained."""
    given = "width" if request.HasField("width") else "height"
    if any(side is not None for side in _read_sides(request)):
        return f"from {given} and aspect_ratio {ratio.text}"
    return f"from aspect_ratio {ratio.text}, near the usual number of pixels"


def _read_sides(request: pb.ImageTask) -> tuple[int | None, int | None]:
    return (
        request.width if request.HasField("width") else None,
        request.height if request.HasField("height") else None,
    )


def _choose_default(
    request: pb.ImageTask,
    capabilities: ImageCapabilities,
    style: StyleSettings,
    init_image: Pixels | None,
) -> _Size:
    if has_canvas(request) and init_image is not None:
        return _choose_for_canvas(request, capabilities, style, init_image)
    if capabilities.upscale_only and init_image is not None:
        return _Size(width=init_image.width, height=init_image.height, explanation=_FROM_INIT_IMAGE)
    if (
        capabilities.keeps_init_size
        and init_image is not None
        and not (style.width or style.height)
    ):
        size = (init_image.width, init_image.height)
        return _fit_to_limits(size, capabilities, _FROM_INIT_IMAGE)
    return _choose_usual(capabilities, style, "not given")


def _choose_for_canvas(
    request: pb.ImageTask,
    capabilities: ImageCapabilities,
    style: StyleSettings,
    init_image: Pixels,
) -> _Size:
    """The size in which a part of a canvas is drawn; the output has that of the canvas."""
    if request.HasField("padding_mask_crop"):
        return _choose_usual(capabilities, style, "not given: the usual size, for the part drawn")
    size = measure_canvas(request, init_image)
    return _fit_to_limits(size, capabilities, "not given: that of the canvas")


def _choose_usual(capabilities: ImageCapabilities, style: StyleSettings, explanation: str) -> _Size:
    return _Size(
        width=style.width or capabilities.width.default,
        height=style.height or capabilities.height.default,
        explanation=explanation,
    )


def _fit_to_limits(
    size: tuple[int, int], capabilities: ImageCapabilities, explanation: str
) -> _Size:
    """That width and height, reduced in proportion to the engine's limits, on its grid."""
    width, height = size
    shrink = min(
        1.0,
        capabilities.width.max / width,
        capabilities.height.max / height,
        math.sqrt(capabilities.max_pixels / (width * height)),
    )
    return _Size(
        width=_align_to_grid(width * shrink, capabilities.width),
        height=_align_to_grid(height * shrink, capabilities.height),
        explanation=explanation,
    )


def _align_to_grid(side: float, allowed: IntegerRange) -> int:
    return max(allowed.min, int(side) // allowed.multiple_of * allowed.multiple_of)


def _fit_to_native(size: tuple[int, int], native: IntegerRange) -> tuple[int, int]:
    """That width and height in proportion, as far as the model was trained for such sides."""
    scale = max(min(1.0, native.max / max(size)), native.min / max(size))
    if scale == 1.0 and min(size) >= native.min:
        return size
    width, height = (_align_to_grid(side * scale, native) for side in size)
    return width, height


def _describe_native(native: IntegerRange) -> str:
    return f"the model was trained for {native.min} to {native.max} pixels a side"
