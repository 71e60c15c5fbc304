"""Validates tasks against an engine's capabilities, and what a running engine does against its interface."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import assert_never

from atelier_engines.capabilities import (
    MAX_SEED,
    AudioCapabilities,
    AudioFeature,
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    NumberRange,
)
from atelier_engines.continuation import validate_continuation
from atelier_engines.engine import Engine
from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineUnavailableError,
    InvalidTaskError,
    UnsupportedError,
)
from atelier_engines.event import Dispatched, Event, Output, Stage, Step
from atelier_engines.prompt_names import list_names
from atelier_engines.suggestions import suggest
from atelier_engines.task import AudioTask, ImageTask, Task, Upscale

_log = logging.getLogger(__name__)
_STRENGTH = NumberRange(min=0.0, max=1.0, default=0.75)
_SEED = IntegerRange(min=0, max=MAX_SEED, default=0)
_MAX_UPSCALE_FACTOR = 8.0
_MAX_UPSCALED_PIXELS = 64 * 10**6
_MAX_UPSCALED_SIDE = 16383
"""Pixels; the maximum of WebP."""
_CRASHES = (Exception, SystemExit, asyncio.CancelledError)


def validate(capabilities: Capabilities, task: Task) -> None:
    """Return if the task is within the engine's capabilities.

    Raises:
        UnsupportedError: the engine lacks a feature, model or scheduler that the task needs.
        InvalidTaskError: a number lies outside the engine's limits, or an option is unknown.
    """
    for problem in violations(capabilities, task):
        raise problem


def violations(capabilities: Capabilities, task: Task) -> Iterator[EngineError]:
    """All errors that the task would raise on the engine; missing features come first."""
    match task:
        case ImageTask():
            if capabilities.image is None:
                yield UnsupportedError("image", "this engine does not support image tasks")
            else:
                yield from _missing_image_features(capabilities.image, task)
                yield from _image_out_of_limits(capabilities.image, task)
        case AudioTask():
            if capabilities.audio is None:
                yield UnsupportedError("audio", "this engine does not support audio tasks")
            else:
                yield from _missing_audio_features(capabilities.audio, task)
                yield from _audio_out_of_limits(capabilities.audio, task)
        case _:
            assert_never(task)
    yield from _unknown_options(capabilities, task)


def _missing_image_features(
    capabilities: ImageCapabilities, task: ImageTask
) -> Iterator[UnsupportedError]:
    needs = (
        (ImageFeature.IMAGE_TO_IMAGE, task.init_image is not None and task.mask is None),
        (ImageFeature.INPAINTING, task.mask is not None),
        (ImageFeature.CONTROLNET, bool(task.controls)),
        (ImageFeature.CONTROL_PREPROCESSING, any(control.preprocess for control in task.controls)),
        (ImageFeature.NEGATIVE_PROMPT, bool(task.negative_prompt)),
        (ImageFeature.SCHEDULER, task.scheduler in capabilities.schedulers[1:]),
        (ImageFeature.LORA, bool(task.loras)),
        (ImageFeature.EMBEDDING, bool(task.embeddings)),
        (ImageFeature.UPSCALING, task.upscale is not None),
        (ImageFeature.PREVIEW, task.preview_interval > 0),
    )
    for feature, needed in needs:
        if needed and feature not in capabilities.features:
            yield _unsupported_feature(feature)
    yield from _unsupported_setting("steps", task.steps, capabilities.steps)
    yield from _unsupported_setting("guidance", task.guidance, capabilities.guidance)
    if task.clip_skip is not None:
        yield from _unsupported_setting("clip_skip", task.clip_skip, capabilities.clip_skip)
    yield from _unlisted("model", task.model, tuple(model.name for model in capabilities.models))
    yield from _unlisted("scheduler", task.scheduler, capabilities.schedulers)
    for lora in task.loras:
        if ImageFeature.LORA in capabilities.features:
            yield from _unlisted("loras", lora.name, capabilities.loras)
    brought = [
        name for lora in task.loras for name in capabilities.lora_embeddings.get(lora.name, ())
    ]
    for name in task.embeddings:
        if ImageFeature.EMBEDDING in capabilities.features and name not in brought:
            yield from _unlisted("embeddings", name, capabilities.embeddings)
    for control in task.controls:
        if (
            ImageFeature.CONTROLNET in capabilities.features
            and control.type not in capabilities.control_types
        ):
            known = ", ".join(kind.value for kind in capabilities.control_types)
            message = (
                f"this engine does not support {control.type.value} controls; it supports {known}"
            )
            yield UnsupportedError("controls", message)
    yield from _missing_upscaling(capabilities, task)


def _missing_upscaling(
    capabilities: ImageCapabilities, task: ImageTask
) -> Iterator[UnsupportedError]:
    if task.upscale is not None and ImageFeature.UPSCALING in capabilities.features:
        yield from _unlisted("upscale.model", task.upscale.model, capabilities.upscalers)
    if capabilities.upscale_only:
        for field, value in (("init_image", task.init_image), ("upscale", task.upscale)):
            if value is None:
                message = f"this engine only upscales images: {field} is required"
                yield UnsupportedError(field, message)


def _missing_audio_features(
    capabilities: AudioCapabilities, task: AudioTask
) -> Iterator[UnsupportedError]:
    needs = {
        AudioFeature.NEGATIVE_PROMPT: bool(task.negative_prompt),
        AudioFeature.SEAMLESS_LOOP: task.seamless_loop,
        AudioFeature.LOUDNESS: task.loudness_lufs is not None,
        AudioFeature.CANDIDATES: task.candidates > 1,
        AudioFeature.AUDIO_TO_AUDIO: task.init_audio is not None and not task.continuation,
        AudioFeature.CONTINUATION: task.continuation,
        AudioFeature.PREVIEW: task.preview_interval > 0,
    }
    for feature, needed in needs.items():
        if needed and feature not in capabilities.features:
            yield _unsupported_feature(feature)
    yield from _unsupported_setting("steps", task.steps, capabilities.steps)
    yield from _unsupported_setting("guidance", task.guidance, capabilities.guidance)
    yield from _unlisted("model", task.model, tuple(model.name for model in capabilities.models))
    for field, value, known in (
        ("sample_rate", task.sample_rate, capabilities.sample_rates),
        ("channels", task.channels, capabilities.channels),
    ):
        if value not in known:
            yield UnsupportedError(field, f"{field} must be {_one_of(known)}, not {value}")


def _image_out_of_limits(
    capabilities: ImageCapabilities, task: ImageTask
) -> Iterator[InvalidTaskError]:
    yield from _out_of_range("width", task.width, capabilities.width)
    yield from _out_of_range("height", task.height, capabilities.height)
    pixels = task.width * task.height
    if pixels > capabilities.max_pixels:
        message = f"width x height must be at most {capabilities.max_pixels} pixels, not {pixels}"
        yield InvalidTaskError("width", message)
    yield from _out_of_range("steps", task.steps, capabilities.steps)
    yield from _out_of_range("guidance", task.guidance, capabilities.guidance)
    if task.clip_skip is not None:
        yield from _out_of_range("clip_skip", task.clip_skip, capabilities.clip_skip)
    if not task.seeds:
        yield InvalidTaskError("num_images", "num_images must be at least 1, not 0")
    for seed in task.seeds:
        yield from _out_of_range("seed", seed, _seeds(capabilities))
    yield from _too_many("num_images", len(task.seeds), capabilities.max_images)
    if ImageFeature.CONTROLNET in capabilities.features:
        yield from _too_many("controls", len(task.controls), capabilities.max_controls)
    if ImageFeature.LORA in capabilities.features:
        yield from _too_many("loras", len(task.loras), capabilities.max_loras)
    yield from _unnamed_embeddings(task)
    if task.mask is not None and task.init_image is None:
        yield InvalidTaskError("mask", "mask requires init_image")
    if task.init_image is not None:
        yield from _out_of_range("strength", task.strength, _STRENGTH)
    if task.upscale is not None:
        yield from _upscaled_too_large(task.upscale, task.width, task.height)
    yield from _too_long(capabilities.max_prompt_length, task)


def _unnamed_embeddings(task: ImageTask) -> Iterator[InvalidTaskError]:
    found = list_names(task.embeddings, (task.prompt, task.negative_prompt))
    for name in task.embeddings:
        if name not in found:
            yield InvalidTaskError("embeddings", f"no prompt has the name of the embedding {name}")


def _seeds(capabilities: ImageCapabilities) -> IntegerRange:
    """Seeds that the engine takes; any where it uses none."""
    if ImageFeature.SEED not in capabilities.features:
        return _SEED
    return IntegerRange(min=capabilities.min_seed, max=capabilities.max_seed, default=0)


def _upscaled_too_large(upscale: Upscale, width: int, height: int) -> Iterator[InvalidTaskError]:
    field = "upscale.factor"
    if not 1.0 < upscale.factor <= _MAX_UPSCALE_FACTOR:
        message = (
            f"{field} must be more than 1 and at most {_MAX_UPSCALE_FACTOR:g}, not {upscale.factor}"
        )
        yield InvalidTaskError(field, message)
        return
    size = upscale.size_of(width, height)
    if size[0] * size[1] > _MAX_UPSCALED_PIXELS or max(size) > _MAX_UPSCALED_SIDE:
        message = (
            f"{field}: the upscaled image may have at most {_MAX_UPSCALED_PIXELS} pixels "
            f"and {_MAX_UPSCALED_SIDE} along a side, not {size[0]} x {size[1]}"
        )
        yield InvalidTaskError(field, message)


def _audio_out_of_limits(
    capabilities: AudioCapabilities, task: AudioTask
) -> Iterator[InvalidTaskError]:
    yield from _out_of_range("duration", task.duration_seconds, capabilities.duration_seconds)
    yield from _out_of_range("steps", task.steps, capabilities.steps)
    yield from _out_of_range("guidance", task.guidance, capabilities.guidance)
    yield from _out_of_range("seed", task.seed, _SEED)
    if task.candidates < 1:
        message = f"candidates must be at least 1, not {task.candidates}"
        yield InvalidTaskError("candidates", message)
    yield from _too_many("candidates", task.candidates, capabilities.max_candidates)
    if task.init_audio is not None:
        yield from _out_of_range("strength", task.strength, _STRENGTH)
    yield from validate_continuation(capabilities, task)
    yield from _too_long(capabilities.max_prompt_length, task)


def _unknown_options(capabilities: Capabilities, task: Task) -> Iterator[InvalidTaskError]:
    """Options whose names the schema does not know; their values are validated elsewhere."""
    schema = capabilities.options_schema
    if schema.get("additionalProperties") is not False:
        return
    properties = schema.get("properties")
    known = tuple(properties) if isinstance(properties, Mapping) else ()
    for name in task.options:
        if name not in known:
            offer = f"it has {', '.join(known)}" if known else "it has none"
            message = f"this engine has no option {name!r}; {offer}"
            yield InvalidTaskError(f"options.{name}", message)


def _unsupported_feature(feature: ImageFeature | AudioFeature) -> UnsupportedError:
    return UnsupportedError(feature.name, f"this engine does not support {feature.value}")


def _unsupported_setting(
    field: str, value: float | None, allowed: IntegerRange | NumberRange | None
) -> Iterator[UnsupportedError]:
    if value is not None and allowed is None:
        yield UnsupportedError(field, f"this engine does not support `{field}`")


def _out_of_range(
    field: str, value: float | None, allowed: IntegerRange | NumberRange | None
) -> Iterator[InvalidTaskError]:
    if allowed is None:
        return
    if value is None:
        message = f"{field} is required: {allowed.min} to {allowed.max}"
        yield InvalidTaskError(field, message)
    elif not allowed.min <= value <= allowed.max:
        message = f"{field} must be {allowed.min} to {allowed.max}, not {value}"
        yield InvalidTaskError(field, message)
    elif (
        isinstance(allowed, IntegerRange)
        and allowed.allowed_values
        and value not in allowed.allowed_values
    ):
        message = f"{field} must be {_one_of(allowed.allowed_values)}, not {value}"
        yield InvalidTaskError(field, message)
    elif isinstance(allowed, IntegerRange) and value % allowed.multiple_of:
        message = f"{field} must be a multiple of {allowed.multiple_of}, not {value}"
        yield InvalidTaskError(field, message)


def _too_many(field: str, count: int, limit: int) -> Iterator[InvalidTaskError]:
    if count > limit:
        yield InvalidTaskError(field, f"{field} must be at most {limit}, not {count}")


def _too_long(limit: int, task: Task) -> Iterator[InvalidTaskError]:
    for field, text in (("prompt", task.prompt), ("negative_prompt", task.negative_prompt)):
        if len(text) > limit:
            message = f"{field} must be at most {limit} characters, not {len(text)}"
            yield InvalidTaskError(field, message)


def _unlisted(field: str, name: str, known: tuple[str, ...]) -> Iterator[UnsupportedError]:
    if name and name not in known:
        allowed = f"must be {_one_of(known)}" if known else "must be empty on this engine"
        yield UnsupportedError(field, f"{field} {allowed}, not {name!r}{suggest(name, known)}")


def _one_of(known: tuple[object, ...]) -> str:
    return "one of " + ", ".join(str(name) for name in known) if len(known) > 1 else str(*known)


@dataclass(frozen=True, slots=True)
class ValidatingEngine:
    """Rejects tasks outside the capabilities, and translates whatever else an engine raises to EngineError.

    That includes an exit of the process, and a CancelledError that nobody asked for.
    """

    inner: Engine
    """The engine that does the work."""

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self.inner.capabilities

    async def start(self) -> None:
        """See Engine.start. Unexpected exceptions become EngineUnavailableError."""
        with _translate_errors("start"):
            await self.inner.start()

    async def check(self) -> None:
        """See Engine.check. Unexpected exceptions become EngineUnavailableError."""
        with _translate_errors("check"):
            await self.inner.check()

    async def stop(self) -> None:
        """See Engine.stop. Unexpected exceptions become EngineUnavailableError."""
        with _translate_errors("stop"):
            await self.inner.stop()

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run.

        Raises:
            InvalidTaskError: a number is outside the limits; no work was begun.
            UnsupportedError: a required feature is missing; no work was begun.
            EngineFailedError: the engine raised an unexpected exception, its steps went backwards, or it
                ended without an Output.
        """
        validate(self.capabilities, task)
        step = outputs = 0
        try:
            async with aclosing(self.inner.run(task)) as events:
                async for event in events:
                    match event:
                        case Step():
                            step = _require_forward(step, event.index)
                        case Output():
                            outputs += 1
                        case Stage() | Dispatched():
                            pass
                        case _:
                            assert_never(event)
                    yield event
        except EngineError:
            raise
        except _CRASHES as error:
            if _is_requested(error):
                raise
            _log.exception("engine_run_crashed")
            msg = "the engine raised an unexpected exception; see the server's log"
            raise EngineFailedError(msg) from error
        if not outputs:
            raise EngineFailedError("the engine ended without an output")


def _require_forward(before: int, now: int) -> int:
    if now <= before:
        raise EngineFailedError(f"the engine's progress went from step {before} to {now}")
    return now


def _is_requested(error: BaseException) -> bool:
    """Whether it is a cancellation that somebody asked for; a library may raise CancelledError by itself."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


@contextmanager
def _translate_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except EngineError:
        raise
    except _CRASHES as error:
        if _is_requested(error):
            raise
        _log.exception("engine_call_crashed", extra={"call": doing})
        msg = f"the engine's {doing} raised an unexpected exception; see the server's log"
        raise EngineUnavailableError(msg) from error
