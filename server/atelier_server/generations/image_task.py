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
from atelier_server.config.settings import LoraSettings, StyleSettings
from atelier_server.generations.ledger import Ledger
from atelier_server.generations.lora_stack import stack_loras
from atelier_server.generations.styles import apply_style, style_of

_DEFAULT_STRENGTH = 0.75
_OF_START = "not given: that of init_image"
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


def image_task(
    asked: pb.ImageTask,
    can: ImageCapabilities,
    ledger: Ledger,
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
    style, asked = style_of(asked, styles), apply_style(asked, styles)
    steps = ledger.clamped(
        "steps", asked.steps if asked.HasField("steps") else None, can.steps, style.steps
    )
    guidance = ledger.clamped(
        "guidance",
        asked.guidance if asked.HasField("guidance") else None,
        can.guidance,
        style.guidance,
    )
    default = _default_size(can, style, pictures.get("init_image"))
    width = asked.width if asked.HasField("width") else None
    height = asked.height if asked.HasField("height") else None
    seed = asked.seed if asked.HasField("seed") else None
    count = ledger.given(
        "num_images", asked.num_images if asked.HasField("num_images") else None, 1
    )
    first = ledger.seed(seed, drawn_seed, can=ImageFeature.SEED in can.features)
    return ImageTask(
        prompt=asked.prompt,
        negative_prompt=ledger.negative_prompt(
            asked.negative_prompt, guidance, can=ImageFeature.NEGATIVE_PROMPT in can.features
        ),
        width=ledger.given("width", width, default.width, default.explanation),
        height=ledger.given("height", height, default.height, default.explanation),
        steps=None if steps is None else int(steps),
        guidance=guidance,
        seeds=tuple((first + index) % 2**63 for index in range(count)),
        model=ledger.choice("model", asked.model, [model.name for model in can.models]),
        scheduler=ledger.choice("scheduler", asked.scheduler, can.schedulers),
        init_image=pictures.get("init_image"),
        strength=_strength(asked, can, ledger),
        mask=pictures.get("mask"),
        controls=tuple(
            _control(control, pictures[f"controls[{index}]"])
            for index, control in enumerate(asked.controls)
        ),
        loras=stack_loras(asked.loras, loras),
        upscale=_upscale(asked),
        resource_profile=ledger.offered(
            "resource_profile",
            _RESOURCE_PROFILES.get(asked.resource_profile),
            can.resource_profiles,
        ),
        safety_mode=ledger.offered(
            "safety_mode", _SAFETY_MODES.get(asked.safety_mode), can.safety_modes
        ),
        preview_interval=_preview_interval(asked, can, ledger),
        options=options,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    width: int
    height: int
    explanation: str = "not given"


def _default_size(can: ImageCapabilities, style: StyleSettings, start: Pixels | None) -> _Size:
    if can.upscale_only and start is not None:
        return _Size(width=start.width, height=start.height, explanation=_OF_START)
    if can.keeps_init_size and start is not None and not (style.width or style.height):
        return _fitting(start, can)
    return _Size(width=style.width or can.width.default, height=style.height or can.height.default)


def _fitting(start: Pixels, can: ImageCapabilities) -> _Size:
    """The picture's size, shrunk in its proportions to the engine's limits, on its grid."""
    shrink = min(
        1.0,
        can.width.max / start.width,
        can.height.max / start.height,
        math.sqrt(can.max_pixels / (start.width * start.height)),
    )
    return _Size(
        width=_on_grid(start.width * shrink, can.width),
        height=_on_grid(start.height * shrink, can.height),
        explanation=_OF_START,
    )


def _on_grid(side: float, allowed: IntegerRange) -> int:
    return max(allowed.min, int(side) // allowed.multiple_of * allowed.multiple_of)


def _strength(asked: pb.ImageTask, can: ImageCapabilities, ledger: Ledger) -> float:
    strength = asked.strength if asked.HasField("strength") else None
    if can.upscale_only:
        if strength is not None:
            ledger.ignore("strength", strength, "this engine only enlarges init_image")
        return _DEFAULT_STRENGTH
    if asked.HasField("init_image"):
        return ledger.given("strength", strength, _DEFAULT_STRENGTH)
    if strength is not None:
        ledger.ignore("strength", strength, "there is no init_image to depart from")
    return _DEFAULT_STRENGTH


def _preview_interval(asked: pb.ImageTask, can: ImageCapabilities, ledger: Ledger) -> int:
    if not asked.HasField("preview_interval"):
        return can.default_preview_interval
    if asked.preview_interval and ImageFeature.PREVIEW not in can.features:
        ledger.ignore("preview_interval", asked.preview_interval, "this engine sends no previews")
        return 0
    return asked.preview_interval


def _upscale(asked: pb.ImageTask) -> Upscale | None:
    if not asked.HasField("upscale"):
        return None
    return Upscale(factor=asked.upscale.factor, model=asked.upscale.model)


def _control(asked: pb.Control, picture: Pixels) -> Control:
    return Control(
        type=_CONTROL_TYPES[asked.type],
        image=picture,
        preprocess=asked.preprocess,
        strength=asked.strength if asked.HasField("strength") else 1.0,
        start=asked.start,
        end=asked.end if asked.HasField("end") else 1.0,
    )
