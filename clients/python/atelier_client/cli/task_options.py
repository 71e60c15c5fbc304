"""The options that say what to make: shared by `generate` and `plan`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from atelier_client.cli.completion_values import complete_engine, complete_name
from atelier_client.cli.engine_names import list_loras, list_models, list_schedulers, list_styles
from atelier_client.cli.task_values import (
    parse_control,
    parse_lora,
    parse_option,
    parse_outpaint,
    parse_size,
)
from atelier_client.enums import (
    AudioFormat,
    ControlType,
    FitMode,
    ImageFormat,
    Priority,
    ProtoEnum,
    ResourceProfile,
    SafetyMode,
)
from atelier_client.tasks import RANDOM_SEED, Lora, Outpaint


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskArguments:
    """The values of the options that describe a task."""

    prompt: str | None
    prompt_file: str | None
    engine: str
    negative_prompt: str
    style: str
    model: str
    size: tuple[int, int] | None
    ratio: str
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
    loras: tuple[Lora, ...]
    embeddings: tuple[str, ...]
    negative_embeddings: tuple[str, ...]
    upscale: float | None
    fit: str | None
    resource_profile: str | None
    safety_mode: str | None
    format: str | None
    preview_interval: int | None
    clip_skip: int | None
    padding_mask_crop: int | None
    outpaint: Outpaint | None
    init_audio: Path | None
    continuation: bool
    audio: bool
    speech: bool
    duration: float | None
    loop: bool
    loudness: float | None
    high_pass: float | None
    fade_in: float | None
    fade_out: float | None
    sample_rate: int | None
    channels: int | None
    candidates: int | None
    options: tuple[tuple[str, object], ...]
    strict: bool
    request_id: str
    priority: str
    timeout: float | None


def _choice(*kinds: type[ProtoEnum]) -> click.Choice[str]:
    """A choice of the values of some enumerations, without "unspecified"."""
    return click.Choice([word.value for kind in kinds for word in list(kind)[1:]])


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS = (
    click.argument("prompt", required=False),
    click.option(
        "--prompt-file", metavar="FILE", help="Read the prompt from a file, - for standard input."
    ),
    click.option(
        "--engine",
        default="",
        shell_complete=complete_engine,
        help="Engine to use.  [default: as the server is configured]",
    ),
    click.option("--negative-prompt", default="", metavar="TEXT", help="What to avoid."),
    click.option(
        "--style",
        default="",
        shell_complete=complete_name(list_styles),
        help="A style that the engine lists.",
    ),
    click.option(
        "--model",
        default="",
        shell_complete=complete_name(list_models),
        help="One of the engine's models.",
    ),
    click.option("--size", type=parse_size, metavar="WxH", help="Pixels, such as 512x768 or 512."),
    click.option(
        "--ratio",
        default="",
        metavar="W:H",
        help="Sides such as 16:9, in the engine's usual number of pixels.",
    ),
    click.option("--steps", type=click.IntRange(min=1), help="Denoising steps."),
    click.option("--guidance", type=float, help="Classifier-free guidance scale."),
    click.option(
        "--seed", type=click.IntRange(min=RANDOM_SEED), help="[default: random, as for -1]"
    ),
    click.option(
        "--scheduler",
        default="",
        shell_complete=complete_name(list_schedulers),
        help="A sampler that the engine lists.",
    ),
    click.option("--num-images", type=click.IntRange(min=1), help="Number of images."),
    click.option("--init-image", type=_FILE, help="Image for image-to-image or inpainting."),
    click.option("--strength", type=float, help="0 keeps the init image or audio, 1 ignores it."),
    click.option("--mask", type=_FILE, help="Inpainting mask: white is replaced, black is kept."),
    click.option(
        "--padding-mask-crop",
        type=click.IntRange(min=0),
        metavar="PIXELS",
        help="Inpaint the mask with so many pixels around it alone, drawn in --size and put back.",
    ),
    click.option(
        "--outpaint",
        type=parse_outpaint,
        metavar="SIDE=PIXELS,...",
        help="Extend the init image: left, top, right, bottom, such as left=128,right=128.",
    ),
    click.option(
        "--control",
        "controls",
        type=parse_control,
        multiple=True,
        metavar="TYPE=FILE",
        help="ControlNet image.",
    ),
    click.option("--preprocess", is_flag=True, help="Compute the control maps from the images."),
    click.option(
        "--lora",
        "loras",
        type=parse_lora,
        multiple=True,
        shell_complete=complete_name(list_loras),
        metavar="NAME[=WEIGHT][:ROLE]",
        help="LoRA to apply; roles are style, character and cinematic.",
    ),
    click.option(
        "--embedding",
        "embeddings",
        multiple=True,
        metavar="NAME",
        help="Textual inversion embedding to add to the prompt.",
    ),
    click.option(
        "--negative-embedding",
        "negative_embeddings",
        multiple=True,
        metavar="NAME",
        help="Textual inversion embedding to add to the negative prompt.",
    ),
    click.option("--upscale", type=float, metavar="FACTOR", help="Upscale the result."),
    click.option(
        "--fit",
        type=_choice(FitMode),
        help="How images of another aspect ratio are fitted.  [default: cover]",
    ),
    click.option("--resource-profile", type=_choice(ResourceProfile), help="Speed or memory."),
    click.option("--safety-mode", type=_choice(SafetyMode), help="What to do with flagged images."),
    click.option("--format", type=_choice(ImageFormat, AudioFormat), help="[default: by --output]"),
    click.option("--preview-interval", type=click.IntRange(min=0), help="Steps between previews."),
    click.option(
        "--clip-skip",
        type=click.IntRange(min=1),
        metavar="LAYER",
        help="Layer of the text encoders, counted from the end; 1 is the last.",
    ),
    click.option("--audio", is_flag=True, help="Generate audio instead of images."),
    click.option(
        "--speech", is_flag=True, help="Say the prompt, by an engine that speaks if none is named."
    ),
    click.option(
        *("--seconds", "--duration", "duration"),
        type=float,
        help="Seconds of audio; implies --audio.",
    ),
    click.option("--init-audio", type=_FILE, help="Audio for audio-to-audio; implies --audio."),
    click.option("--continuation", is_flag=True, help="Go on after the init audio, as prompted."),
    click.option("--loop", is_flag=True, help="Audio that loops seamlessly."),
    click.option(
        "--loudness", type=float, metavar="LUFS", help="Loudness of the audio, such as -16 or -23."
    ),
    click.option(
        "--high-pass", type=float, metavar="HZ", help="Remove what is lower than that frequency."
    ),
    click.option("--fade-in", type=float, metavar="SECONDS", help="Fade in from silence."),
    click.option("--fade-out", type=float, metavar="SECONDS", help="Fade out into silence."),
    click.option("--sample-rate", type=int, metavar="HZ", help="Sample rate, such as 48000."),
    click.option("--channels", type=click.IntRange(min=1), help="1 is mono, 2 is stereo."),
    click.option(
        "--candidates", type=click.IntRange(min=1), help="Generate so many, keep the best."
    ),
    click.option(
        "--option",
        "options",
        type=parse_option,
        multiple=True,
        metavar="KEY=JSON",
        help="Option of the engine.",
    ),
    click.option("--strict", is_flag=True, help="Reject values that would be clamped or ignored."),
    click.option("--request-id", default="", help="Id under which it runs only once."),
    click.option(
        "--priority",
        type=_choice(Priority),
        default=Priority.INTERACTIVE.value,
        show_default=True,
        help="batch: your interactive ones go first.",
    ),
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
