"""From the contract's image task to the engine's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from atelier.v1 import task_pb2 as pb
from atelier_engines.capabilities import ImageCapabilities, ImageFeature, IntegerRange
from atelier_engines.media import Pixels
from atelier_engines.task import (
    JSON,
    Control,
    ControlType,
    ImageTask,
    ResourceProfile,
    SafetyMode,
    Upscale,
)
from atelier_server.admission.loras import stack_loras
from atelier_server.admission.parameters import ParameterRecorder
from atelier_server.admission.styles import apply_style, get_style
from atelier_server.config.settings import LoraSettings, StyleSettings

_DEFAULT_STRENGTH = 0.75
_FROM_INIT_IMAGE = "not given: that of init_image"
_CONTROL_TYPES = {
    pb.CONTROL_TYPE_CANNY: ControlType.CANNY,
    pb.CONTROL_TYPE_DEPTH: ControlType.DEPTH,
    pb.CONTROL_TYPE_POSE: ControlType.POSE,
    pb.CONTROL_TYPE_SEGMENTATION: ControlType.SEGMENTATION,
}
_RESOURCE_PROFILES = {
    pb.RESOURCE_PROFILE_SPEED: ResourceProfile.SPEED,
    pb.RESOURCE_PROFILE_BALANCED: ResourceProfile.BALANCED,
    pb.RESOURCE_PROFILE_MEMORY: ResourceProfile.MEMORY,
}
_SAFETY_MODES = {
    pb.SAFETY_MODE_BLOCK: SafetyMode.BLOCK,
    pb.SAFETY_MODE_FLAG: SafetyMode.FLAG,
    pb.SAFETY_MODE_OFF: SafetyMode.OFF,
}


def resolve_image_task(
    asked: pb.ImageTask,
    can: ImageCapabilities,
    ledger: ParameterRecorder,
    *,
    styles: Mapping[str, StyleSettings],
    loras: LoraSettings,
    pictures: Mapping[str, Pixels],
    options: Mapping[str, JSON],
    drawn_seed: int,
) -> ImageTask:
    """The task with everything decided; how goes into the ledger.

    Raises:
        InvalidRequestError: there is no such style.
    """
    style, asked = get_style(asked, styles), apply_style(asked, styles)
    steps = ledger.clamp(
        "steps", asked.steps if asked.HasField("steps") else None, can.steps, style.steps
    )
    guidance = ledger.clamp(
        "guidance",
        asked.guidance if asked.HasField("guidance") else None,
        can.guidance,
        style.guidance,
    )
    default = _choose_default_size(can, style, pictures.get("init_image"))
    width = asked.width if asked.HasField("width") else None
    height = asked.height if asked.HasField("height") else None
    seed = asked.seed if asked.HasField("seed") else None
    count = ledger.apply_default(
        "num_images", asked.num_images if asked.HasField("num_images") else None, 1
    )
    first = ledger.choose_seed(seed, drawn_seed, can=ImageFeature.SEED in can.features)
    return ImageTask(
        prompt=asked.prompt,
        negative_prompt=ledger.choose_negative_prompt(
            asked.negative_prompt, guidance, can=ImageFeature.NEGATIVE_PROMPT in can.features
        ),
        width=ledger.apply_default("width", width, default.width, default.explanation),
        height=ledger.apply_default("height", height, default.height, default.explanation),
        steps=None if steps is None else int(steps),
        guidance=guidance,
        seeds=tuple((first + index) % 2**63 for index in range(count)),
        model=ledger.choose("model", asked.model, [model.name for model in can.models]),
        scheduler=ledger.choose("scheduler", asked.scheduler, can.schedulers),
        init_image=pictures.get("init_image"),
        strength=_choose_strength(asked, can, ledger),
        mask=pictures.get("mask"),
        controls=tuple(
            _to_control(control, pictures[f"controls[{index}]"])
            for index, control in enumerate(asked.controls)
        ),
        loras=stack_loras(asked.loras, loras),
        upscale=_to_upscale(asked),
        resource_profile=ledger.choose_optional(
            "resource_profile",
            _RESOURCE_PROFILES.get(asked.resource_profile),
            can.resource_profiles,
        ),
        safety_mode=ledger.choose_optional(
            "safety_mode", _SAFETY_MODES.get(asked.safety_mode), can.safety_modes
        ),
        preview_interval=_choose_preview_interval(asked, can, ledger),
        options=options,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    width: int
    height: int
    explanation: str = "not given"


def _choose_default_size(
    can: ImageCapabilities, style: StyleSettings, start: Pixels | None
) -> _Size:
    if can.upscale_only and start is not None:
        return _Size(width=start.width, height=start.height, explanation=_FROM_INIT_IMAGE)
    if can.keeps_init_size and start is not None and not (style.width or style.height):
        return _fit_to_limits(start, can)
    return _Size(width=style.width or can.width.default, height=style.height or can.height.default)


def _fit_to_limits(start: Pixels, can: ImageCapabilities) -> _Size:
    """The picture's size, shrunk in its proportions to the engine's limits, on its grid."""
    shrink = min(
        1.0,
        can.width.max / start.width,
        can.height.max / start.height,
        math.sqrt(can.max_pixels / (start.width * start.height)),
    )
    return _Size(
        width=_align_to_grid(start.width * shrink, can.width),
        height=_align_to_grid(start.height * shrink, can.height),
        explanation=_FROM_INIT_IMAGE,
    )


def _align_to_grid(side: float, allowed: IntegerRange) -> int:
    return max(allowed.min, int(side) // allowed.multiple_of * allowed.multiple_of)


def _choose_strength(
    asked: pb.ImageTask, can: ImageCapabilities, ledger: ParameterRecorder
) -> float:
    strength = asked.strength if asked.HasField("strength") else None
    if can.upscale_only:
        if strength is not None:
            ledger.ignore("strength", strength, "this engine only enlarges init_image")
        return _DEFAULT_STRENGTH
    if asked.HasField("init_image"):
        return ledger.apply_default("strength", strength, _DEFAULT_STRENGTH)
    if strength is not None:
        ledger.ignore("strength", strength, "there is no init_image to depart from")
    return _DEFAULT_STRENGTH


def _choose_preview_interval(
    asked: pb.ImageTask, can: ImageCapabilities, ledger: ParameterRecorder
) -> int:
    if not asked.HasField("preview_interval"):
        return can.default_preview_interval
    if asked.preview_interval and ImageFeature.PREVIEW not in can.features:
        ledger.ignore("preview_interval", asked.preview_interval, "this engine sends no previews")
        return 0
    return asked.preview_interval


def _to_upscale(asked: pb.ImageTask) -> Upscale | None:
    if not asked.HasField("upscale"):
        return None
    return Upscale(factor=asked.upscale.factor, model=asked.upscale.model)


def _to_control(asked: pb.Control, picture: Pixels) -> Control:
    return Control(
        type=_CONTROL_TYPES[asked.type],
        image=picture,
        preprocess=asked.preprocess,
        strength=asked.strength if asked.HasField("strength") else 1.0,
        start=asked.start,
        end=asked.end if asked.HasField("end") else 1.0,
    )
