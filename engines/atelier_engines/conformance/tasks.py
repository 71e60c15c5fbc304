"""Small tasks inside an engine's capabilities, and tasks outside of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

import numpy as np

from atelier_engines.capabilities import (
    MAX_SEED,
    AudioCapabilities,
    AudioFeature,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    NumberRange,
)
from atelier_engines.media import Pixels, Samples
from atelier_engines.task import (
    AudioTask,
    Control,
    ControlType,
    ImageTask,
    Lora,
    Upscale,
)

TaskT = TypeVar("TaskT", ImageTask, AudioTask)
_FEW_STEPS = 3
_TONE_SECONDS, _TONE_HERTZ = 0.4, 110.0
_ABSENT = "no-such-name"


def image_task(capabilities: ImageCapabilities) -> ImageTask:
    """A task for one image of the default size in few steps; on an engine that only upscales, one upscaled."""
    task = ImageTask(
        prompt="a lighthouse",
        width=capabilities.width.default,
        height=capabilities.height.default,
        seeds=(7,),
        steps=few_steps(capabilities.steps),
        guidance=None if capabilities.guidance is None else capabilities.guidance.default,
    )
    if capabilities.upscale_only:
        initial = random_image(task.width, task.height, 1)
        return replace(task, init_image=initial, upscale=Upscale(factor=2.0))
    return task


def audio_task(capabilities: AudioCapabilities) -> AudioTask:
    """A task for audio of the minimum length, but at least half a second, in few steps."""
    duration = max(capabilities.duration_seconds.min, min(0.5, capabilities.duration_seconds.max))
    return AudioTask(
        prompt="rain on a roof",
        duration_seconds=duration,
        seed=7,
        sample_rate=capabilities.sample_rates[0],
        channels=capabilities.channels[0],
        steps=few_steps(capabilities.steps),
        guidance=None if capabilities.guidance is None else capabilities.guidance.default,
    )


def few_steps(steps: IntegerRange | None) -> int | None:
    """The smallest allowed number of steps that is at least three; else the maximum."""
    if steps is None:
        return None
    if steps.allowed_values:
        return next((few for few in steps.allowed_values if few >= _FEW_STEPS), steps.max)
    lowest = max(steps.min, _FEW_STEPS)
    on_grid = -(-lowest // steps.multiple_of) * steps.multiple_of
    return min(on_grid, steps.max)


def many_steps(task: TaskT, steps: IntegerRange | None) -> TaskT:
    """The same task with the maximum number of steps, where the engine has steps."""
    return task if steps is None else replace(task, steps=steps.max)


def random_image(width: int, height: int, seed: int) -> Pixels:
    """An image of random pixels, of that size."""
    random = np.random.default_rng(seed)
    return Pixels(array=random.integers(0, 256, (height, width, 3), np.uint8))


def random_audio(task: AudioTask, seed: int, *, share: float = 1.0) -> Samples:
    """Noise in the task's rate and channels, and `share` of its duration long."""
    frames = round(task.duration_seconds * task.sample_rate * share)
    random = np.random.default_rng(seed)
    noise = random.uniform(-0.5, 0.5, (frames, task.channels)).astype(np.float32)
    return Samples(array=noise, sample_rate=task.sample_rate)


def continuing(task: AudioTask) -> AudioTask:
    """The task as one that goes on after a low tone of 0.4 s, longer by that."""
    seconds = np.arange(round(_TONE_SECONDS * task.sample_rate)) / task.sample_rate
    tone = (0.25 * np.sin(2 * np.pi * _TONE_HERTZ * seconds)).astype(np.float32)
    audio = Samples(
        array=np.repeat(tone[:, np.newaxis], task.channels, axis=1), sample_rate=task.sample_rate
    )
    return replace(
        task,
        init_audio=audio,
        continuation=True,
        duration_seconds=task.duration_seconds + _TONE_SECONDS,
    )


def images_out_of_limits(capabilities: ImageCapabilities, task: ImageTask) -> Iterator[ImageTask]:
    """Tasks with one number each outside the engine's limits."""
    for width in outside(capabilities.width):
        yield replace(task, width=width)
    for height in outside(capabilities.height):
        yield replace(task, height=height)
    if capabilities.width.max * capabilities.height.max > capabilities.max_pixels:
        yield replace(task, width=capabilities.width.max, height=capabilities.height.max)
    yield replace(task, seeds=())
    yield replace(task, seeds=tuple(range(capabilities.max_images + 1)))
    yield replace(task, seeds=(-1,))
    yield replace(task, seeds=(MAX_SEED + 1,))
    if ImageFeature.SEED in capabilities.features:
        yield replace(task, seeds=(capabilities.max_seed + 1,))
    if capabilities.clip_skip is not None:
        for layer in outside(capabilities.clip_skip):
            yield replace(task, clip_skip=layer)
    if ImageFeature.UPSCALING in capabilities.features:
        for factor in (1.0, np.nextafter(8.0, 9.0).item(), float("nan")):
            yield replace(task, upscale=Upscale(factor=factor))
    yield from _numbers_out_of_limits(capabilities, task)


def audio_out_of_limits(capabilities: AudioCapabilities, task: AudioTask) -> Iterator[AudioTask]:
    """Tasks with one number each outside the engine's limits."""
    for duration in beyond(capabilities.duration_seconds):
        yield replace(task, duration_seconds=duration)
    if AudioFeature.CANDIDATES in capabilities.features:
        yield replace(task, candidates=capabilities.max_candidates + 1)
    yield replace(task, candidates=0)
    yield replace(task, seed=-1)
    if AudioFeature.CONTINUATION in capabilities.features:
        yield replace(task, continuation=True)
        wanted = continuing(task)
        for seconds in (_TONE_SECONDS, _TONE_SECONDS + 0.09):
            yield replace(wanted, duration_seconds=seconds)
        yield replace(wanted, init_audio=random_audio(task, 1, share=0.19 / task.duration_seconds))
        if AudioFeature.SEAMLESS_LOOP in capabilities.features:
            yield replace(wanted, seamless_loop=True)
    if AudioFeature.AUDIO_TO_AUDIO in capabilities.features:
        for strength in (
            np.nextafter(0.0, -1.0).item(),
            np.nextafter(1.0, 2.0).item(),
            float("nan"),
        ):
            yield replace(task, init_audio=random_audio(task, 1), strength=strength)
    yield from _numbers_out_of_limits(capabilities, task)


def _numbers_out_of_limits(
    capabilities: ImageCapabilities | AudioCapabilities, task: TaskT
) -> Iterator[TaskT]:
    if capabilities.steps is not None:
        yield replace(task, steps=None)
        for steps in outside(capabilities.steps):
            yield replace(task, steps=steps)
    if capabilities.guidance is not None:
        yield replace(task, guidance=None)
        for guidance in beyond(capabilities.guidance):
            yield replace(task, guidance=guidance)
    yield replace(task, prompt="x" * (capabilities.max_prompt_length + 1))
    yield replace(task, options={_ABSENT: 1})


def outside(allowed: IntegerRange) -> Iterator[int]:
    """Whole numbers just outside a range: below, above, and between its multiples or allowed values."""
    yield allowed.min - allowed.multiple_of
    yield allowed.max + allowed.multiple_of
    if allowed.multiple_of > 1 and allowed.min < allowed.max:
        yield allowed.min + 1
    gaps = zip(allowed.allowed_values, allowed.allowed_values[1:], strict=False)
    yield from (below + 1 for below, above in gaps if below + 1 < above)


def beyond(allowed: NumberRange) -> Iterator[float]:
    """Numbers just outside a range, and NaN."""
    yield np.nextafter(allowed.min, -np.inf).item()
    yield np.nextafter(allowed.max, np.inf).item()
    yield float("nan")


def unsupported_images(capabilities: ImageCapabilities, task: ImageTask) -> Iterator[ImageTask]:
    """Tasks that need a feature, or name a resource, that the engine does not claim."""
    for feature, needy in images_needing(capabilities, task).items():
        if feature not in capabilities.features:
            yield needy
    for kind in ControlType:
        if (
            ImageFeature.CONTROLNET in capabilities.features
            and kind not in capabilities.control_types
        ):
            yield replace(task, controls=(_control(task, kind),))
    if ImageFeature.LORA in capabilities.features:
        yield replace(task, loras=(Lora(name=_ABSENT),))
    if ImageFeature.EMBEDDING in capabilities.features:
        yield replace(task, embeddings=(_ABSENT,))
    if ImageFeature.UPSCALING in capabilities.features:
        yield replace(task, upscale=Upscale(factor=2.0, model=_ABSENT))
    if capabilities.upscale_only:
        yield replace(task, init_image=None)
        yield replace(task, upscale=None)
    yield replace(task, scheduler=_ABSENT)
    yield from _unsupported_settings(capabilities, task)


def images_needing(
    capabilities: ImageCapabilities, task: ImageTask
) -> dict[ImageFeature, ImageTask]:
    """A task that needs each feature; none for SEED, which every task has."""
    initial = random_image(task.width, task.height, 1)
    control = _control(task, ControlType.CANNY)
    needy = {
        ImageFeature.IMAGE_TO_IMAGE: replace(task, init_image=initial),
        ImageFeature.INPAINTING: replace(task, init_image=initial, mask=initial),
        ImageFeature.CONTROLNET: replace(task, controls=(control,)),
        ImageFeature.CONTROL_PREPROCESSING: replace(
            task, controls=(replace(control, preprocess=True),)
        ),
        ImageFeature.NEGATIVE_PROMPT: replace(task, negative_prompt="fog"),
        ImageFeature.LORA: replace(task, loras=(Lora(name=_ABSENT),)),
        ImageFeature.EMBEDDING: replace(task, embeddings=(_ABSENT,)),
        ImageFeature.UPSCALING: replace(task, upscale=Upscale(factor=2.0)),
        ImageFeature.PREVIEW: replace(task, preview_interval=1),
    }
    for another in capabilities.schedulers[1:]:
        needy[ImageFeature.SCHEDULER] = replace(task, scheduler=another)
    return needy


def _control(task: ImageTask, kind: ControlType) -> Control:
    return Control(type=kind, image=random_image(task.width, task.height, 2))


def unsupported_audio(capabilities: AudioCapabilities, task: AudioTask) -> Iterator[AudioTask]:
    """Tasks that need a feature, or name a resource, that the engine does not claim."""
    for feature, needy in audio_needing(task).items():
        if feature not in capabilities.features:
            yield needy
    yield replace(task, sample_rate=max(capabilities.sample_rates) + 1)
    yield replace(task, channels=max(capabilities.channels) + 1)
    yield from _unsupported_settings(capabilities, task)


def audio_needing(task: AudioTask) -> dict[AudioFeature, AudioTask]:
    """A task that needs each feature; none for SEED, which every task has."""
    return {
        AudioFeature.NEGATIVE_PROMPT: replace(task, negative_prompt="voices"),
        AudioFeature.SEAMLESS_LOOP: replace(task, seamless_loop=True),
        AudioFeature.LOUDNESS: replace(task, loudness_lufs=-16.0),
        AudioFeature.CANDIDATES: replace(task, candidates=2),
        AudioFeature.AUDIO_TO_AUDIO: replace(task, init_audio=random_audio(task, 1)),
        AudioFeature.CONTINUATION: continuing(task),
        AudioFeature.PREVIEW: replace(task, preview_interval=1),
    }


def _unsupported_settings(
    capabilities: ImageCapabilities | AudioCapabilities, task: TaskT
) -> Iterator[TaskT]:
    yield replace(task, model=_ABSENT)
    if capabilities.steps is None:
        yield replace(task, steps=1)
    if capabilities.guidance is None:
        yield replace(task, guidance=1.0)
