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
    """What the options of a task said."""

    prompt: str
    engine: str
    negative: str
    style: str
    model: str
    size: tuple[int, int] | None
    steps: int | None
    guidance: float | None
    seed: int | None
    scheduler: str
    count: int | None
    init_image: Path | None
    strength: float | None
    mask: Path | None
    controls: tuple[tuple[ControlType, Path], ...]
    control_photos: tuple[tuple[ControlType, Path], ...]
    loras: tuple[tuple[str, float | None], ...]
    upscale: float | None
    profile: str | None
    safety: str | None
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


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and (height or width).isdecimal()):
        raise click.BadParameter(f"{text!r} is no size such as 512x768")
    return int(width), int(height or width)


def _pair(text: str) -> tuple[str, object]:
    """`KEY=VALUE`, its value a JSON value, or plain text where it is none."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise click.BadParameter(f"{text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _control(text: str) -> tuple[ControlType, Path]:
    kind, _, path = text.partition("=")
    known = [member.value for member in list(ControlType)[1:]]
    if kind not in known or not path:
        raise click.BadParameter(f"{text!r} is not TYPE=FILE with a type of {', '.join(known)}")
    return ControlType(kind), Path(path)


def _lora(text: str) -> tuple[str, float | None]:
    name, equals, weight = text.partition("=")
    try:
        return name, float(weight) if equals else None
    except ValueError:
        raise click.BadParameter(f"{weight!r} is no number") from None


def _choice(*kinds: type[ProtoEnum]) -> click.Choice[str]:
    """Every word of some enumerations except "unspecified"."""
    return click.Choice([word.value for kind in kinds for word in list(kind)[1:]])


_OF_PICTURES = (
    *("style", "size", "scheduler", "count", "init_image", "strength", "mask"),
    *("controls", "control_photos", "loras", "upscale", "profile", "safety", "preview_interval"),
)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS = (
    click.argument("prompt"),
    click.option("--engine", default="", help="The service chooses when not said."),
    click.option("--negative", default="", metavar="TEXT", help="What it should not show."),
    click.option("--style", default="", help="A style that the engine lists."),
    click.option("--model", default="", help="One of the engine's models."),
    click.option("--size", type=_size, metavar="WxH", help="In pixels, such as 512x768 or 512."),
    click.option("--steps", type=click.IntRange(min=1), help="Denoising steps."),
    click.option("--guidance", type=float, help="How strictly to follow the prompt."),
    click.option("--seed", type=click.IntRange(min=0), help="Drawn when not said."),
    click.option("--scheduler", default="", help="A sampler that the engine lists."),
    click.option("--count", type=click.IntRange(min=1), help="How many pictures."),
    click.option("--init-image", type=_FILE, help="Picture to start from."),
    click.option("--strength", type=float, help="0 keeps the init image, 1 ignores it."),
    click.option("--mask", type=_FILE, help="White is repainted, black is kept."),
    click.option(
        "--control",
        "controls",
        type=_control,
        multiple=True,
        metavar="TYPE=FILE",
        help="Steering picture.",
    ),
    click.option(
        "--control-photo",
        "control_photos",
        type=_control,
        multiple=True,
        metavar="TYPE=FILE",
        help="Photo to steer by.",
    ),
    click.option(
        "--lora", "loras", type=_lora, multiple=True, metavar="NAME[=WEIGHT]", help="LoRA to apply."
    ),
    click.option("--upscale", type=float, metavar="FACTOR", help="Enlarge afterwards."),
    click.option("--profile", type=_choice(ResourceProfile), help="What to spend."),
    click.option("--safety", type=_choice(SafetyMode), help="What to do when a check flags it."),
    click.option("--format", type=_choice(ImageFormat, AudioFormat), help="[default: by --output]"),
    click.option("--preview-interval", type=click.IntRange(min=0), help="Steps between previews."),
    click.option("--audio", is_flag=True, help="Make a sound instead of pictures."),
    click.option("--duration", type=float, help="Seconds of sound; implies --audio."),
    click.option("--loop", is_flag=True, help="A sound that loops without a click."),
    click.option("--candidates", type=click.IntRange(min=1), help="Sounds to choose the best of."),
    click.option(
        "--option",
        "options",
        type=_pair,
        multiple=True,
        metavar="KEY=JSON",
        help="The engine's own.",
    ),
    click.option("--strict", is_flag=True, help="Refuse what would be clamped or ignored."),
    click.option("--request-id", default="", help="The same id is never run twice."),
    click.option("--timeout", type=float, metavar="SECONDS", help="Give up after this time."),
)


def task_options(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Every option of a task, collected into the parameter `arguments`."""

    @functools.wraps(command)
    def collected(**values: object) -> int | None:
        own = {name: values.pop(name) for name in TaskArguments.__slots__}
        return command(arguments=TaskArguments(**own), **values)  # type: ignore[arg-type]

    for option in reversed(_OPTIONS):
        collected = option(collected)
    return collected


def task_from(arguments: TaskArguments, output: Path | None) -> ImageTask | AudioTask:
    """The task that the options describe; the format told from the output's name if need be.

    Raises:
        click.UsageError: options for pictures and for sounds are mixed.
    """
    suffix = output.suffix.lower() if output else ""
    if arguments.audio or arguments.duration is not None:
        return _audio_task(arguments, suffix)
    _refuse(arguments, ("loop", "candidates"), "of sounds: add --audio")
    return _image_task(arguments, suffix)


def keywords_from(arguments: TaskArguments) -> RequestKeywords:
    """How to run the task."""
    keywords = RequestKeywords(
        engine=arguments.engine,
        options=dict(arguments.options),
        strict=arguments.strict,
        request_id=arguments.request_id,
    )
    if arguments.timeout is not None:
        keywords["timeout_seconds"] = arguments.timeout
    return keywords


def _image_task(arguments: TaskArguments, suffix: str) -> ImageTask:
    width, height = arguments.size or (None, None)
    return ImageTask(
        prompt=arguments.prompt,
        negative_prompt=arguments.negative,
        style=arguments.style,
        model=arguments.model,
        width=width,
        height=height,
        steps=arguments.steps,
        guidance=arguments.guidance,
        seed=arguments.seed,
        scheduler=arguments.scheduler,
        num_images=arguments.count,
        init_image=arguments.init_image,
        strength=arguments.strength,
        mask=arguments.mask,
        controls=(
            *(Control(type=kind, image=path) for kind, path in arguments.controls),
            *(
                Control(type=kind, image=path, preprocess=True)
                for kind, path in arguments.control_photos
            ),
        ),
        loras=tuple(Lora(name=name, weight=weight) for name, weight in arguments.loras),
        upscale=None if arguments.upscale is None else Upscale(factor=arguments.upscale),
        resource_profile=ResourceProfile(arguments.profile or ResourceProfile.UNSPECIFIED),
        safety_mode=SafetyMode(arguments.safety or SafetyMode.UNSPECIFIED),
        format=_format(ImageFormat, arguments, _IMAGE_SUFFIXES.get(suffix)),
        preview_interval=arguments.preview_interval,
    )


def _audio_task(arguments: TaskArguments, suffix: str) -> AudioTask:
    _refuse(arguments, _OF_PICTURES, "of pictures, and this is a sound")
    return AudioTask(
        prompt=arguments.prompt,
        negative_prompt=arguments.negative,
        model=arguments.model,
        duration_seconds=arguments.duration,
        steps=arguments.steps,
        guidance=arguments.guidance,
        seed=arguments.seed,
        seamless_loop=arguments.loop,
        candidates=arguments.candidates,
        format=_format(AudioFormat, arguments, _AUDIO_SUFFIXES.get(suffix)),
    )


def _format(kind: type[_W], arguments: TaskArguments, told: _W | None) -> _W:
    """The format said, or the one the output's name tells."""
    if arguments.format is None:
        return told or kind("unspecified")
    if arguments.format not in list(kind):
        raise click.UsageError(
            f"--format {arguments.format} is none of {', '.join(list(kind)[1:])}"
        )
    return kind(arguments.format)


def _refuse(arguments: TaskArguments, names: Sequence[str], why: str) -> None:
    said = [name.replace("_", "-") for name in names if getattr(arguments, name)]
    if said:
        raise click.UsageError(f"--{said[0]} is an option {why}")
