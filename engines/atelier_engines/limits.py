"""Holds a task against an engine's capabilities, before any work is done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from atelier_engines.capabilities import (
    AudioCapabilities,
    AudioFeature,
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    NumberRange,
)
from atelier_engines.errors import EngineError, InvalidTaskError, UnsupportedError
from atelier_engines.task import AudioTask, ImageTask, Task


def check(capabilities: Capabilities, task: Task) -> None:
    """Return if the engine can do the task.

    Raises:
        UnsupportedError: the engine lacks a feature, model or sampler that the task asks for.
        InvalidTaskError: a number lies outside the engine's limits.
    """
    for problem in problems(capabilities, task):
        raise problem


def problems(capabilities: Capabilities, task: Task) -> Iterator[EngineError]:
    """Everything that keeps the engine from doing the task; missing features come first."""
    match task:
        case ImageTask():
            if capabilities.image is None:
                yield UnsupportedError("image", "this engine makes no pictures")
            else:
                yield from _missing_image_features(capabilities.image, task)
                yield from _image_out_of_limits(capabilities.image, task)
        case AudioTask():
            if capabilities.audio is None:
                yield UnsupportedError("audio", "this engine makes no sound")
            else:
                yield from _missing_audio_features(capabilities.audio, task)
                yield from _audio_out_of_limits(capabilities.audio, task)
        case _:
            assert_never(task)


def _missing_image_features(can: ImageCapabilities, task: ImageTask) -> Iterator[UnsupportedError]:
    needs = {
        ImageFeature.IMAGE_TO_IMAGE: task.init_image is not None and task.mask is None,
        ImageFeature.INPAINTING: task.mask is not None,
        ImageFeature.CONTROLNET: bool(task.controls),
        ImageFeature.CONTROL_PREPROCESSING: any(control.preprocess for control in task.controls),
        ImageFeature.LORA: bool(task.loras),
        ImageFeature.UPSCALING: task.upscale is not None,
    }
    for feature, needed in needs.items():
        if needed and feature not in can.features:
            yield UnsupportedError(feature.name, f"this engine cannot do {feature.value}")
    yield from _unlisted("model", task.model, tuple(model.name for model in can.models))
    yield from _unlisted("scheduler", task.scheduler, can.schedulers)
    for lora in task.loras:
        if ImageFeature.LORA in can.features:
            yield from _unlisted("loras", lora.name, can.loras)
    for control in task.controls:
        if ImageFeature.CONTROLNET in can.features and control.type not in can.control_types:
            known = ", ".join(kind.value for kind in can.control_types)
            yield UnsupportedError(
                "controls", f"this engine has no {control.type.value} control; it has {known}"
            )


def _missing_audio_features(can: AudioCapabilities, task: AudioTask) -> Iterator[UnsupportedError]:
    needs = {
        AudioFeature.SEAMLESS_LOOP: task.seamless_loop,
        AudioFeature.LOUDNESS: task.loudness_lufs is not None,
        AudioFeature.CANDIDATES: task.candidates > 1,
    }
    for feature, needed in needs.items():
        if needed and feature not in can.features:
            yield UnsupportedError(feature.name, f"this engine cannot do {feature.value}")
    yield from _unlisted("model", task.model, tuple(model.name for model in can.models))
    if task.sample_rate not in can.sample_rates:
        yield UnsupportedError("sample_rate", f"sample_rate must be {_one_of(can.sample_rates)}, not {task.sample_rate}")
    if task.channels not in can.channels:
        yield UnsupportedError("channels", f"channels must be {_one_of(can.channels)}, not {task.channels}")


def _image_out_of_limits(can: ImageCapabilities, task: ImageTask) -> Iterator[InvalidTaskError]:
    yield from _outside("width", task.width, can.width)
    yield from _outside("height", task.height, can.height)
    if task.width * task.height > can.max_pixels:
        yield InvalidTaskError(
            "width", f"width x height must be at most {can.max_pixels} pixels, not {task.width * task.height}"
        )
    yield from _outside("steps", task.steps, can.steps)
    yield from _outside("guidance", task.guidance, can.guidance)
    if len(task.seeds) > can.max_count:
        yield InvalidTaskError("count", f"count must be at most {can.max_count}, not {len(task.seeds)}")
    if ImageFeature.CONTROLNET in can.features and len(task.controls) > can.max_controls:
        yield InvalidTaskError("controls", f"at most {can.max_controls} controls, not {len(task.controls)}")
    if ImageFeature.LORA in can.features and len(task.loras) > can.max_loras:
        yield InvalidTaskError("loras", f"at most {can.max_loras} loras, not {len(task.loras)}")
    yield from _too_long(can.max_prompt_length, task)


def _audio_out_of_limits(can: AudioCapabilities, task: AudioTask) -> Iterator[InvalidTaskError]:
    yield from _outside("duration", task.duration_seconds, can.duration_seconds)
    yield from _outside("steps", task.steps, can.steps)
    yield from _outside("guidance", task.guidance, can.guidance)
    if task.candidates > can.max_candidates and AudioFeature.CANDIDATES in can.features:
        yield InvalidTaskError(
            "candidates", f"candidates must be at most {can.max_candidates}, not {task.candidates}"
        )
    yield from _too_long(can.max_prompt_length, task)


def _too_long(limit: int, task: Task) -> Iterator[InvalidTaskError]:
    for field, text in (("prompt", task.prompt), ("negative_prompt", task.negative_prompt)):
        if len(text) > limit:
            yield InvalidTaskError(field, f"{field} must be at most {limit} characters, not {len(text)}")


def _outside(
    field: str, value: float | None, allowed: IntegerRange | NumberRange | None
) -> Iterator[InvalidTaskError]:
    if value is None or allowed is None:
        return
    if not allowed.min <= value <= allowed.max:
        yield InvalidTaskError(field, f"{field} must be {allowed.min} to {allowed.max}, not {value}")
    elif isinstance(allowed, IntegerRange) and value % allowed.multiple_of:
        yield InvalidTaskError(field, f"{field} must be a multiple of {allowed.multiple_of}, not {value}")


def _unlisted(field: str, name: str, known: tuple[str, ...]) -> Iterator[UnsupportedError]:
    if name and name not in known:
        names = _one_of(known) if known else "left empty: this engine offers no choice"
        yield UnsupportedError(field, f"{field} must be {names}, not {name!r}")


def _one_of(known: tuple[object, ...]) -> str:
    return "one of " + ", ".join(str(name) for name in known) if len(known) > 1 else str(*known)
