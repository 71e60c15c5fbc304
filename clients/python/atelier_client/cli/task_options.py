"""The options that say what to make: shared by `generate` and `plan`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click

from atelier_client.enums import (
    AudioFormat,
    ControlType,
    ImageFormat,
    ProtoEnum,
    ResourceProfile,
    SafetyMode,
)
from atelier_client.tasks import (
    AudioTask,
    Control,
    ImageTask,
    Lora,
    RequestKeywords,
    Upscale,
)

_W = TypeVar("_W", bound=ProtoEnum)
_IMAGE_SUFFIXES = {
    ".png": ImageFormat.PNG,
    ".webp": ImageFormat.WEBP,
    ".jpg": ImageFormat.JPEG,
    ".jpeg": ImageFormat.JPEG,
    ".avif": ImageFormat.AVIF,
}
_AUDIO_SUFFIXES = {
    ".wav": AudioFormat.WAV,
    ".flac": AudioFormat.FLAC,
    ".ogg": AudioFormat.OGG,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskArguments:
    """The values of the options that describe a task."""

    prompt: str
    engine: str
    negative_prompt: str
    style: str
    model: str
    size: tuple[int, int] | None
    steps: int | None
    guidance: float | None
    seed: int | None
    scheduler: str
    num_images: int | None
    init_image: Path | None
    strength: float | None
    mask: Path | None
    controls: tuple[tuple[ControlType, Path], ...]
    preprocess: bool
    loras: tuple[tuple[str, float | None], ...]
    upscale: float | None
    resource_profile: str | None
    safety_mode: str | None
    format: str | None
    preview_interval: int | None
    audio: bool
    duration: float | None
    loop: bool
    candidates: int | None
    options: tuple[tuple[str, object], ...]
    strict: bool
    request_id: str
    timeout: float | None


def _parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and (height or width).isdecimal()):
        raise click.BadParameter(f"{text!r} is not a size such as 512x768")
    return int(width), int(height or width)


def _parse_option(text: str) -> tuple[str, object]:
    """`KEY=VALUE`; the value is JSON, or plain text where it is not valid JSON."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise click.BadParameter(f"{text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _parse_control(text: str) -> tuple[ControlType, Path]:
    kind, _, path = text.partition("=")
    known = [member.value for member in list(ControlType)[1:]]
    if kind not in known or not path:
        raise click.BadParameter(f"{text!r} is not TYPE=FILE with a type of {', '.join(known)}")
    return ControlType(kind), Path(path)


def _parse_lora(text: str) -> tuple[str, float | None]:
    name, equals, weight = text.partition("=")
    try:
        return name, float(weight) if equals else None
    except ValueError:
        raise click.BadParameter(f"{weight!r} is not a number") from None


def _choice(*kinds: type[ProtoEnum]) -> click.Choice[str]:
    """A choice of the values of some enumerations, without "unspecified"."""
    return click.Choice([word.value for kind in kinds for word in list(kind)[1:]])


_IMAGE_OPTIONS = (
    *("style", "size", "scheduler", "num_images", "init_image", "strength", "mask"),
    *("controls", "preprocess", "loras", "upscale", "resource_profile", "safety_mode"),
    "preview_interval",
)
_SINGULAR = {"controls": "control", "loras": "lora"}
"""Parameters that are named otherwise than their options."""
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS = (
    click.argument("prompt"),
    click.option(
        "--engine", default="", help="Engine to use.  [default: as the server is configured]"
    ),
    click.option("--negative-prompt", default="", metavar="TEXT", help="What to avoid."),
    click.option("--style", default="", help="A style that the engine lists."),
    click.option("--model", default="", help="One of the engine's models."),
    click.option("--size", type=_parse_size, metavar="WxH", help="Pixels, such as 512x768 or 512."),
    click.option("--steps", type=click.IntRange(min=1), help="Denoising steps."),
    click.option("--guidance", type=float, help="Classifier-free guidance scale."),
    click.option("--seed", type=click.IntRange(min=0), help="[default: random]"),
    click.option("--scheduler", default="", help="A sampler that the engine lists."),
    click.option("--num-images", type=click.IntRange(min=1), help="Number of images."),
    click.option("--init-image", type=_FILE, help="Image for image-to-image or inpainting."),
    click.option("--strength", type=float, help="0 keeps the init image, 1 ignores it."),
    click.option("--mask", type=_FILE, help="Inpainting mask: white is replaced, black is kept."),
    click.option(
        "--control",
        "controls",
        type=_parse_control,
        multiple=True,
        metavar="TYPE=FILE",
        help="ControlNet image.",
    ),
    click.option("--preprocess", is_flag=True, help="Compute the control maps from the images."),
    click.option(
        "--lora",
        "loras",
        type=_parse_lora,
        multiple=True,
        metavar="NAME[=WEIGHT]",
        help="LoRA to apply.",
    ),
    click.option("--upscale", type=float, metavar="FACTOR", help="Upscale the result."),
    click.option("--resource-profile", type=_choice(ResourceProfile), help="Speed or memory."),
    click.option("--safety-mode", type=_choice(SafetyMode), help="What to do with flagged images."),
    click.option("--format", type=_choice(ImageFormat, AudioFormat), help="[default: by --output]"),
    click.option("--preview-interval", type=click.IntRange(min=0), help="Steps between previews."),
    click.option("--audio", is_flag=True, help="Generate audio instead of images."),
    click.option("--duration", type=float, help="Seconds of audio; implies --audio."),
    click.option("--loop", is_flag=True, help="Audio that loops seamlessly."),
    click.option(
        "--candidates", type=click.IntRange(min=1), help="Generate so many, keep the best."
    ),
    click.option(
        "--option",
        "options",
        type=_parse_option,
        multiple=True,
        metavar="KEY=JSON",
        help="Option of the engine.",
    ),
    click.option("--strict", is_flag=True, help="Reject values that would be clamped or ignored."),
    click.option("--request-id", default="", help="Id under which it runs only once."),
    click.option("--timeout", type=float, metavar="SECONDS", help="Time limit, waiting included."),
)


def task_options(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Add every option of a task to a command, which gets them as the parameter `arguments`."""

    @functools.wraps(command)
    def collect(**values: object) -> int | None:
        own = {name: values.pop(name) for name in TaskArguments.__slots__}
        return command(arguments=TaskArguments(**own), **values)  # type: ignore[arg-type]  # fields by name

    for option in reversed(_OPTIONS):
        collect = option(collect)
    return collect


def build_task(arguments: TaskArguments, output: Path | None) -> ImageTask | AudioTask:
    """The task that the options describe; the suffix of `output` decides the format if no option does.

    Raises:
        click.UsageError: options for images and for audio are mixed.
    """
    suffix = output.suffix.lower() if output else ""
    if arguments.audio or arguments.duration is not None:
        return _build_audio_task(arguments, suffix)
    _reject_options(arguments, ("loop", "candidates"), "for audio: add --audio")
    return _build_image_task(arguments, suffix)


def build_keywords(arguments: TaskArguments) -> RequestKeywords:
    """The keywords that say how to run the task."""
    keywords = RequestKeywords(
        engine=arguments.engine,
        options=dict(arguments.options),
        strict=arguments.strict,
        request_id=arguments.request_id,
    )
    if arguments.timeout is not None:
        keywords["timeout_seconds"] = arguments.timeout
    return keywords


def _build_image_task(arguments: TaskArguments, suffix: str) -> ImageTask:
    if arguments.preprocess and not arguments.controls:
        raise click.UsageError("--preprocess needs --control")
    width, height = arguments.size or (None, None)
    return ImageTask(
        prompt=arguments.prompt,
        negative_prompt=arguments.negative_prompt,
        style=arguments.style,
        model=arguments.model,
        width=width,
        height=height,
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
        loras=tuple(Lora(name=name, weight=weight) for name, weight in arguments.loras),
        upscale=None if arguments.upscale is None else Upscale(factor=arguments.upscale),
        resource_profile=ResourceProfile(arguments.resource_profile or ResourceProfile.UNSPECIFIED),
        safety_mode=SafetyMode(arguments.safety_mode or SafetyMode.UNSPECIFIED),
        format=_choose_format(ImageFormat, arguments, _IMAGE_SUFFIXES.get(suffix)),
        preview_interval=arguments.preview_interval,
    )


def _build_audio_task(arguments: TaskArguments, suffix: str) -> AudioTask:
    _reject_options(arguments, _IMAGE_OPTIONS, "for images, and this task is audio")
    return AudioTask(
        prompt=arguments.prompt,
        negative_prompt=arguments.negative_prompt,
        model=arguments.model,
        duration_seconds=arguments.duration,
        steps=arguments.steps,
        guidance=arguments.guidance,
        seed=arguments.seed,
        seamless_loop=arguments.loop,
        candidates=arguments.candidates,
        format=_choose_format(AudioFormat, arguments, _AUDIO_SUFFIXES.get(suffix)),
    )


def _choose_format(kind: type[_W], arguments: TaskArguments, from_suffix: _W | None) -> _W:
    """The format of the option, or that of the output file's suffix."""
    if arguments.format is None:
        return from_suffix or kind("unspecified")
    if arguments.format not in list(kind):
        raise click.UsageError(
            f"--format must be one of {', '.join(list(kind)[1:])}, not {arguments.format}"
        )
    return kind(arguments.format)


def _reject_options(arguments: TaskArguments, names: Sequence[str], reason: str) -> None:
    given = [name for name in names if getattr(arguments, name)]
    if given:
        option = _SINGULAR.get(given[0], given[0]).replace("_", "-")
        raise click.UsageError(f"--{option} is an option {reason}")
