"""Builds the task that the options of `generate` and `plan` describe."""

from __future__ import annotations

from collections.abc import Sequence

import click

from atelier_client.cli.output_names import Target
from atelier_client.cli.prompts import read_prompt
from atelier_client.cli.task_options import TaskArguments
from atelier_client.enums import (
    AudioFormat,
    FitMode,
    ImageFormat,
    Priority,
    ResourceProfile,
    SafetyMode,
)
from atelier_client.tasks import AudioTask, Control, Embedding, ImageTask, RequestKeywords, Upscale

_IMAGE_OPTIONS = (
    *("style", "size", "ratio", "scheduler", "num_images", "init_image", "mask"),
    *("controls", "preprocess", "loras", "upscale", "resource_profile", "safety_mode"),
    *("embeddings", "negative_embeddings", "clip_skip", "fit"),
    *("padding_mask_crop", "outpaint"),
)
_AUDIO_OPTIONS = (
    *("loop", "loudness", "high_pass", "fade_in", "fade_out"),
    *("sample_rate", "channels", "candidates", "continuation"),
)
_SINGULAR = {
    "controls": "control",
    "loras": "lora",
    "embeddings": "embedding",
    "negative_embeddings": "negative_embedding",
}
"""Parameters that are named otherwise than their options."""


def build_task(arguments: TaskArguments, target: Target | None) -> ImageTask | AudioTask:
    """The task that the options describe; the suffix of the target says its kind and format if no option does.

    Raises:
        click.UsageError: options for images and for audio are mixed, or contradict each other.
    """
    form = None if target is None else target.format
    implied = (arguments.duration, arguments.init_audio)
    is_audio = arguments.audio or arguments.speech or any(one is not None for one in implied)
    if is_audio or isinstance(form, AudioFormat):
        return _build_audio_task(arguments, form)
    _reject_options(arguments, _AUDIO_OPTIONS, "for audio: add --audio")
    return _build_image_task(arguments, form)


def build_keywords(arguments: TaskArguments) -> RequestKeywords:
    """The keywords that say how to run the task."""
    keywords = RequestKeywords(
        engine=arguments.engine,
        options=dict(arguments.options),
        strict=arguments.strict,
        request_id=arguments.request_id,
        priority=Priority(arguments.priority),
    )
    if arguments.timeout is not None:
        keywords["timeout_seconds"] = arguments.timeout
    return keywords


def _build_image_task(
    arguments: TaskArguments, form: ImageFormat | AudioFormat | None
) -> ImageTask:
    if arguments.preprocess and not arguments.controls:
        raise click.UsageError("--preprocess needs --control")
    if arguments.size and arguments.ratio:
        raise click.UsageError("give either --size or --ratio")
    width, height = arguments.size or (None, None)
    return ImageTask(
        prompt=_read_prompt(arguments),
        negative_prompt=arguments.negative_prompt,
        style=arguments.style,
        model=arguments.model,
        width=width,
        height=height,
        aspect_ratio=arguments.ratio,
        steps=arguments.steps,
        guidance=arguments.guidance,
        seed=arguments.seed,
        scheduler=arguments.scheduler,
        num_images=arguments.num_images,
        init_image=arguments.init_image,
        strength=arguments.strength,
        mask=arguments.mask,
        controls=tuple(
            Control(type=kind, image=path, preprocess=arguments.preprocess)
            for kind, path in arguments.controls
        ),
        loras=arguments.loras,
        embeddings=(
            *(Embedding(name=name) for name in arguments.embeddings),
            *(Embedding(name=name, negative=True) for name in arguments.negative_embeddings),
        ),
        upscale=None if arguments.upscale is None else Upscale(factor=arguments.upscale),
        fit=FitMode(arguments.fit or FitMode.UNSPECIFIED),
        resource_profile=ResourceProfile(arguments.resource_profile or ResourceProfile.UNSPECIFIED),
        safety_mode=SafetyMode(arguments.safety_mode or SafetyMode.UNSPECIFIED),
        format=ImageFormat(_choose_format(ImageFormat, arguments, form)),
        preview_interval=arguments.preview_interval,
        clip_skip=arguments.clip_skip,
        padding_mask_crop=arguments.padding_mask_crop,
        outpaint=arguments.outpaint,
    )


def _build_audio_task(
    arguments: TaskArguments, form: ImageFormat | AudioFormat | None
) -> AudioTask:
    _reject_options(arguments, _IMAGE_OPTIONS, "for images, and this task is audio")
    return AudioTask(
        prompt=_read_prompt(arguments),
        negative_prompt=arguments.negative_prompt,
        model=arguments.model,
        duration_seconds=arguments.duration,
        steps=arguments.steps,
        guidance=arguments.guidance,
        seed=arguments.seed,
        seamless_loop=arguments.loop,
        loudness_lufs=arguments.loudness,
        high_pass_hz=arguments.high_pass,
        fade_in_seconds=arguments.fade_in,
        fade_out_seconds=arguments.fade_out,
        sample_rate=arguments.sample_rate,
        channels=arguments.channels,
        candidates=arguments.candidates,
        init_audio=arguments.init_audio,
        continuation=arguments.continuation,
        strength=arguments.strength,
        preview_interval=arguments.preview_interval,
        format=AudioFormat(_choose_format(AudioFormat, arguments, form)),
    )


def _read_prompt(arguments: TaskArguments) -> str:
    return read_prompt(
        arguments.prompt, arguments.prompt_file, required=arguments.init_image is None
    )


def _choose_format(
    kind: type[ImageFormat | AudioFormat],
    arguments: TaskArguments,
    form: ImageFormat | AudioFormat | None,
) -> str:
    """The format of the option, or that of the output file's suffix."""
    known = ", ".join(list(kind)[1:])
    for option, given in (("--format", arguments.format), ("the suffix of --output", form)):
        if given is not None and given not in list(kind):
            raise click.UsageError(f"{option} must be one of {known}, not {given}")
    if arguments.format is not None and form is not None and arguments.format != form:
        raise click.UsageError(f"--format {arguments.format} contradicts the suffix of --output")
    return arguments.format or form or kind("unspecified")


def _reject_options(arguments: TaskArguments, names: Sequence[str], reason: str) -> None:
    given = [name for name in names if getattr(arguments, name)]
    if given:
        option = _SINGULAR.get(given[0], given[0]).replace("_", "-")
        raise click.UsageError(f"--{option} is an option {reason}")
