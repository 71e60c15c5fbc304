"""Builds the client's task from the engine's; blocks while it encodes images and audio."""

from __future__ import annotations

import io
from typing import assert_never

import atelier_client as client
from atelier_client.enums import (
    AudioFormat,
    ControlType,
    FitMode,
    ImageFormat,
    ResourceProfile,
    SafetyMode,
)
from atelier_engines.capabilities import (
    AudioCapabilities,
    AudioFeature,
    Capabilities,
    ImageCapabilities,
    ImageFeature,
)
from atelier_engines.errors import UnsupportedError
from atelier_engines.forwarding.float_wav import encode_wav
from atelier_engines.media import Pixels, image_from_pixels
from atelier_engines.prompt_names import list_names
from atelier_engines.task import AudioTask, Control, ImageTask, Task


def build_client_task(
    task: Task, capabilities: Capabilities
) -> client.ImageTask | client.AudioTask:
    """The same task for the client, with every value set that has an effect, so that no default of the server applies.

    `capabilities` are those of the engine there: it is asked strictly, and refuses what has no effect.

    Raises:
        UnsupportedError: the seeds are not consecutive, as the contract demands.
    """
    match task:
        case ImageTask():
            return _image(task, capabilities.image)
        case AudioTask():
            return _audio(task, capabilities.audio)
        case _:
            assert_never(task)


def _image(task: ImageTask, capabilities: ImageCapabilities | None) -> client.ImageTask:
    seeded = capabilities is not None and ImageFeature.SEED in capabilities.features
    in_prompt = list_names(task.embeddings, (task.prompt,))
    return client.ImageTask(
        prompt=task.prompt,
        negative_prompt=task.negative_prompt,
        model=task.model,
        width=task.width,
        height=task.height,
        steps=task.steps,
        guidance=task.guidance,
        seed=_first_seed(task.seeds) if seeded else None,
        scheduler=task.scheduler,
        num_images=len(task.seeds),
        init_image=_encode_optional(task.init_image),
        strength=_strength(task, capabilities),
        mask=_encode_optional(task.mask),
        controls=tuple(map(_control, task.controls)),
        loras=tuple(client.Lora(name=lora.name, weight=lora.weight) for lora in task.loras),
        embeddings=tuple(
            client.Embedding(name=name, negative=name not in in_prompt) for name in task.embeddings
        ),
        fit=FitMode(task.fit.value)
        if task.init_image is not None or task.controls
        else FitMode.UNSPECIFIED,
        resource_profile=ResourceProfile.UNSPECIFIED
        if task.resource_profile is None
        else ResourceProfile(task.resource_profile.value),
        safety_mode=SafetyMode.UNSPECIFIED
        if task.safety_mode is None
        else SafetyMode(task.safety_mode.value),
        format=ImageFormat.PNG,
        preview_interval=task.preview_interval,
        clip_skip=task.clip_skip,
        upscale=None
        if task.upscale is None
        else client.Upscale(factor=task.upscale.factor, model=task.upscale.model),
    )


def _strength(task: ImageTask, capabilities: ImageCapabilities | None) -> float | None:
    """The strength; None where it has no effect."""
    ignored = capabilities is not None and (
        capabilities.ignores_strength
        or capabilities.upscale_only
        or (task.mask is not None and capabilities.inpainting_ignores_strength)
    )
    return None if task.init_image is None or ignored else task.strength


def _audio(task: AudioTask, capabilities: AudioCapabilities | None) -> client.AudioTask:
    seeded = capabilities is not None and AudioFeature.SEED in capabilities.features
    return client.AudioTask(
        prompt=task.prompt,
        negative_prompt=task.negative_prompt,
        duration_seconds=task.duration_seconds,
        steps=task.steps,
        guidance=task.guidance,
        seed=task.seed if seeded else None,
        sample_rate=task.sample_rate,
        channels=task.channels,
        init_audio=None if task.init_audio is None else encode_wav(task.init_audio),
        strength=None if task.init_audio is None or task.continuation else task.strength,
        continuation=task.continuation,
        candidates=task.candidates,
        seamless_loop=task.seamless_loop,
        loudness_lufs=task.loudness_lufs,
        model=task.model,
        preview_interval=task.preview_interval,
        format=AudioFormat.WAV,
    )


def _control(control: Control) -> client.Control:
    return client.Control(
        type=ControlType(control.type.value),
        image=_encode_png(control.image),
        preprocess=control.preprocess,
        strength=control.strength,
        start=control.start,
        end=control.end,
    )


def _first_seed(seeds: tuple[int, ...]) -> int:
    first = seeds[0]
    if any(seed != first + index for index, seed in enumerate(seeds)):
        raise UnsupportedError("seeds", "this engine supports only consecutive seeds")
    return first


def _encode_optional(pixels: Pixels | None) -> bytes | None:
    return None if pixels is None else _encode_png(pixels)


def _encode_png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    image_from_pixels(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
