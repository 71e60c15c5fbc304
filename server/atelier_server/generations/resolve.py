"""Decides everything that a request left open: from the contract's task to the engine's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from google.protobuf.json_format import MessageToDict

from atelier.v1 import task_pb2 as pb
from atelier.v1.generation_pb2 import Parameter
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_engines.capabilities import (
    AudioCapabilities,
    AudioFeature,
    Capabilities,
    ImageCapabilities,
    ImageFeature,
)
from atelier_engines.errors import UnsupportedError
from atelier_engines.media import Pixels
from atelier_engines.task import (
    JSON,
    AudioTask,
    Control,
    ControlType,
    ImageTask,
    Lora,
    Profile,
    Safety,
    Task,
    Upscale,
)
from atelier_server.errors import InvalidRequestError, Violation
from atelier_server.generations.ledger import Ledger

_DEFAULT_STRENGTH = 0.75
_CONTROL_TYPES = {
    pb.CONTROL_TYPE_CANNY: ControlType.CANNY,
    pb.CONTROL_TYPE_DEPTH: ControlType.DEPTH,
    pb.CONTROL_TYPE_POSE: ControlType.POSE,
    pb.CONTROL_TYPE_SEGMENTATION: ControlType.SEGMENTATION,
}
_PROFILES = {
    pb.PROFILE_SPEED: Profile.SPEED,
    pb.PROFILE_BALANCED: Profile.BALANCED,
    pb.PROFILE_MEMORY: Profile.MEMORY,
}
_SAFETIES = {pb.SAFETY_BLOCK: Safety.BLOCK, pb.SAFETY_FLAG: Safety.FLAG, pb.SAFETY_OFF: Safety.OFF}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A task in which everything is decided."""

    task: Task
    """What the engine is to do."""
    parameters: tuple[Parameter, ...]
    """How each of its values came about."""


def resolve(
    request: GenerateRequest, can: Capabilities, pictures: Mapping[str, Pixels], *, drawn_seed: int
) -> Resolved:
    """Fill in the engine's defaults, and bring what may be clamped within its limits.

    `pictures` holds the decoded pictures by the path of their field: init_image, mask, controls[0].
    `drawn_seed` is used when the request names none. What the engine can't do stays in the task, for
    `atelier_engines.limits` to find.

    Raises:
        InvalidRequestError: `strict` is set and something would be clamped or ignored.
        UnsupportedError: the engine makes no such things at all.
    """
    ledger = Ledger()
    options: Mapping[str, JSON] = MessageToDict(request.options)
    kind = request.WhichOneof("task")
    task: Task
    match kind:
        case "image":
            if can.image is None:
                raise UnsupportedError("image", "this engine makes no pictures")
            task = _image(request.image, can.image, pictures, options, ledger, drawn_seed)
        case "audio":
            if can.audio is None:
                raise UnsupportedError("audio", "this engine makes no sound")
            task = _audio(request.audio, can.audio, options, ledger, drawn_seed)
        case None:
            raise InvalidRequestError([Violation("task", "give an image or an audio task")])
        case _:
            assert_never(kind)
    if request.strict:
        ledger.refuse_changes(kind)
    return Resolved(task=task, parameters=tuple(ledger.parameters))


def _image(  # noqa: PLR0917 (one value for each thing that shapes a picture)
    asked: pb.ImageTask,
    can: ImageCapabilities,
    pictures: Mapping[str, Pixels],
    options: Mapping[str, JSON],
    ledger: Ledger,
    drawn_seed: int,
) -> ImageTask:
    steps = ledger.clamped("steps", asked.steps if asked.HasField("steps") else None, can.steps)
    guidance = ledger.clamped(
        "guidance", asked.guidance if asked.HasField("guidance") else None, can.guidance
    )
    return ImageTask(
        prompt=asked.prompt,
        negative_prompt=ledger.negative_prompt(
            asked.negative_prompt, guidance, can=ImageFeature.NEGATIVE_PROMPT in can.features
        ),
        width=ledger.given(
            "width", asked.width if asked.HasField("width") else None, can.width.default
        ),
        height=ledger.given(
            "height", asked.height if asked.HasField("height") else None, can.height.default
        ),
        steps=None if steps is None else int(steps),
        guidance=guidance,
        seeds=_seeds(asked, can, ledger, drawn_seed),
        model=ledger.choice("model", asked.model, [model.name for model in can.models]),
        scheduler=ledger.choice("scheduler", asked.scheduler, can.schedulers),
        init_image=pictures.get("init_image"),
        strength=_strength(asked, ledger),
        mask=pictures.get("mask"),
        controls=tuple(
            _control(control, pictures[f"controls[{index}]"])
            for index, control in enumerate(asked.controls)
        ),
        loras=tuple(
            Lora(name=lora.name, weight=lora.weight if lora.HasField("weight") else 1.0)
            for lora in asked.loras
        ),
        upscale=Upscale(factor=asked.upscale.factor, model=asked.upscale.model)
        if asked.HasField("upscale")
        else None,
        profile=_PROFILES.get(asked.profile),
        safety=_SAFETIES.get(asked.safety),
        preview_interval=_preview_interval(asked, can, ledger),
        options=options,
    )


def _audio(
    asked: pb.AudioTask,
    can: AudioCapabilities,
    options: Mapping[str, JSON],
    ledger: Ledger,
    drawn_seed: int,
) -> AudioTask:
    seconds = asked.duration.ToMicroseconds() / 1e6 if asked.HasField("duration") else None
    rate = asked.sample_rate if asked.HasField("sample_rate") else None
    steps = ledger.clamped("steps", asked.steps if asked.HasField("steps") else None, can.steps)
    guidance = ledger.clamped(
        "guidance", asked.guidance if asked.HasField("guidance") else None, can.guidance
    )
    return AudioTask(
        prompt=asked.prompt,
        negative_prompt=ledger.negative_prompt(
            asked.negative_prompt, guidance, can=AudioFeature.NEGATIVE_PROMPT in can.features
        ),
        duration_seconds=ledger.given("duration", seconds, can.duration_seconds.default),
        steps=None if steps is None else int(steps),
        guidance=guidance,
        seed=ledger.seed(
            asked.seed if asked.HasField("seed") else None,
            drawn_seed,
            can=AudioFeature.SEED in can.features,
        ),
        sample_rate=ledger.given("sample_rate", rate, can.sample_rates[0]),
        channels=ledger.given(
            "channels", asked.channels if asked.HasField("channels") else None, can.channels[0]
        ),
        model=ledger.choice("model", asked.model, [model.name for model in can.models]),
        candidates=ledger.given(
            "candidates", asked.candidates if asked.HasField("candidates") else None, 1
        ),
        seamless_loop=asked.seamless_loop,
        loudness_lufs=asked.loudness_lufs if asked.HasField("loudness_lufs") else None,
        options=options,
    )


def _seeds(
    asked: pb.ImageTask, can: ImageCapabilities, ledger: Ledger, drawn_seed: int
) -> tuple[int, ...]:
    count = ledger.given("count", asked.count if asked.HasField("count") else None, 1)
    first = ledger.seed(
        asked.seed if asked.HasField("seed") else None,
        drawn_seed,
        can=ImageFeature.SEED in can.features,
    )
    return tuple((first + index) % 2**63 for index in range(count))


def _strength(asked: pb.ImageTask, ledger: Ledger) -> float:
    strength = asked.strength if asked.HasField("strength") else None
    if asked.HasField("init_image"):
        return ledger.given("strength", strength, _DEFAULT_STRENGTH)
    if strength is not None:
        ledger.ignore("strength", strength, "there is no init_image to depart from")
    return _DEFAULT_STRENGTH


def _preview_interval(asked: pb.ImageTask, can: ImageCapabilities, ledger: Ledger) -> int:
    if not asked.HasField("preview_interval"):
        return can.preview_interval
    if asked.preview_interval and ImageFeature.PREVIEW not in can.features:
        ledger.ignore("preview_interval", asked.preview_interval, "this engine sends no previews")
        return 0
    return asked.preview_interval


def _control(asked: pb.Control, picture: Pixels) -> Control:
    return Control(
        type=_CONTROL_TYPES[asked.type],
        image=picture,
        preprocess=asked.preprocess,
        strength=asked.strength if asked.HasField("strength") else 1.0,
        start=asked.start,
        end=asked.end if asked.HasField("end") else 1.0,
    )
