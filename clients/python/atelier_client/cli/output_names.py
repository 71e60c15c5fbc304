"""Where outputs go: a file, a folder, or a template with fields such as {seed}; the suffix says the format."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import TypeVar

import click

from atelier_client.enums import AudioFormat, ImageFormat
from atelier_client.outputs import Audio, Image
from atelier_client.results import Generation
from atelier_client.tasks import ImageTask

F = TypeVar("F", bound=Callable[..., object])

_MEDIA_TYPES = {
    ".png": "image/png",
    ".webp": "image/webp",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".avif": "image/avif",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".mp3": "audio/mpeg",
}
"""The first suffix of a media type is the one that new files get."""
_FORMATS: dict[str, ImageFormat | AudioFormat] = {
    ".png": ImageFormat.PNG,
    ".webp": ImageFormat.WEBP,
    ".jpg": ImageFormat.JPEG,
    ".jpeg": ImageFormat.JPEG,
    ".avif": ImageFormat.AVIF,
    ".wav": AudioFormat.WAV,
    ".flac": AudioFormat.FLAC,
    ".ogg": AudioFormat.OGG,
    ".opus": AudioFormat.OPUS,
    ".mp3": AudioFormat.MP3,
}
_FIELDS = (
    *("prompt", "id", "short_id", "request_id", "index"),
    *("seed", "engine", "style_id", "utc", "ext"),
)
_DEFAULT_NAME = "{prompt}.{ext}"
_SHORT_ID_LENGTH = 8  # the end of an id, which is random; as the server's exports have it
_MAX_SLUG_LENGTH = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What `--output` and `--force` say."""

    template: str
    """Path, with fields in braces; it ends with {ext} or with a suffix, or one is added."""
    is_named: bool
    """Whether the caller chose the name; a default name is numbered where the file exists."""
    force: bool
    """Whether existing files are overwritten."""

    @property
    def format(self) -> ImageFormat | AudioFormat | None:
        """The format of its suffix; None where the format decides the suffix."""
        return _FORMATS.get(os.path.splitext(self.template)[1].lower())  # noqa: PTH122 - a template, not yet a path

    @property
    def literal_start(self) -> str:
        """The text before the first field."""
        start = ""
        for literal, field, _, _ in Formatter().parse(self.template):
            start += literal
            if field is not None:
                break
        return start


def output_options(command: F) -> F:
    """`--output` and `--force`, as the parameters `output` and `force` for `parse_target`."""
    command = click.option("--force", is_flag=True, help="Overwrite existing files.")(command)
    return click.option(
        "-o",
        "--output",
        metavar="FILE",
        help="File, folder, or template such as out/{prompt}-{seed}.{ext}; the suffix says the"
        " format, several outputs are numbered.  [default: named after the prompt]",
    )(command)


def parse_target(output: str | None, *, force: bool) -> Target:
    """The target of the options.

    Raises:
        click.UsageError: a field or the suffix is unknown.
    """
    if output is None:
        return Target(template=_DEFAULT_NAME, is_named=False, force=force)
    if output in {"", "-"}:
        told = "is empty" if not output else "-: outputs go to files, not to standard output"
        raise click.UsageError(f"--output {told}")
    _check_fields(output)
    if output.endswith("/") or os.path.isdir(output):  # noqa: PTH112 - says no where the name is too long
        folder = output.rstrip("/") + "/"
        return Target(template=folder + _DEFAULT_NAME, is_named=False, force=force)
    suffix = os.path.splitext(output)[1]  # noqa: PTH122 - a template, not yet a path
    if suffix and "{" not in suffix and suffix.lower() not in _FORMATS:
        known = ", ".join(_FORMATS)
        raise click.UsageError(f"--output {output}: no format has the suffix {suffix}; use {known}")
    return Target(template=output, is_named=True, force=force)


def name_outputs(generation: Generation, target: Target) -> tuple[Path, ...]:
    """The file of each output: with a suffix of its media type if it has none, numbered if several are equal."""
    paths = [
        _name_output(generation, output, index, target.template)
        for index, output in enumerate(generation.outputs, start=1)
    ]
    if len(set(paths)) < len(paths):
        paths = [number_path(path, index) for index, path in enumerate(paths, start=1)]
    return tuple(paths)


def number_path(path: Path, number: int) -> Path:
    """The path with a number behind its name: `apple-2.png`."""
    return path.with_stem(f"{path.stem}-{number}")


def describe_existing(path: Path) -> str:
    """What to do about a file that is in the way."""
    return f"{path} exists: --force overwrites it"


def fits_suffix(path: Path, media_type: str) -> bool:
    """Whether the suffix is one of that media type, or of none that is known."""
    return _MEDIA_TYPES.get(path.suffix.lower(), media_type) == media_type


def slugify(prompt: str) -> str:
    """A prompt as a file name: `a-red-apple`."""
    words = re.sub(r"[^\w]+", "-", prompt.lower()).strip("-_")
    return words[:_MAX_SLUG_LENGTH].rstrip("-_") or "output"


def name_file(template: str, values: Mapping[str, object], suffix: str) -> Path:
    """The file that a template names, with the suffix if it has none that is known."""
    path = Path(template.format(**values))
    return path if path.suffix.lower() in _FORMATS else path.with_name(path.name + suffix)


def get_suffix(form: ImageFormat | AudioFormat) -> str:
    """The suffix that new files of the format get; empty for none."""
    return next((suffix for suffix, known in _FORMATS.items() if known == form), "")


def _name_output(generation: Generation, output: Image | Audio, index: int, template: str) -> Path:
    style = generation.task.style if isinstance(generation.task, ImageTask) else ""
    accepted = generation.create_time
    known = (suffix for suffix, media in _MEDIA_TYPES.items() if media == output.media_type)
    suffix = next(known, ".bin")
    values = {
        "prompt": slugify(generation.prompt),
        "id": generation.id,
        "short_id": generation.id[-_SHORT_ID_LENGTH:],
        "request_id": _to_file_name(generation.request_id),
        "index": index,
        "seed": output.seed,
        "engine": generation.engine,
        "style_id": _to_file_name(style) or "none",
        "utc": accepted.strftime("%Y%m%d_%H%M%S") if accepted else "",
        "ext": suffix[1:],
    }
    return name_file(template, values, suffix)


def _to_file_name(chosen: str) -> str:
    """An id that somebody chose, as a part of a file name that neither hides the file nor leads elsewhere."""
    return re.sub(r"[^A-Za-z0-9._-]|^[.]", "_", chosen)


def _check_fields(template: str) -> None:
    known = ", ".join(f"{{{name}}}" for name in _FIELDS)
    try:
        fields = list(list_fields(template))
    except ValueError as error:
        raise click.UsageError(f"--output {template}: {error}; write {{{{ for a brace") from error
    unknown = [name for name in fields if name not in _FIELDS]
    if unknown:
        raise click.UsageError(
            f"--output {template}: no field {{{unknown[0]}}}; there are {known}, and {{{{ is a brace"
        )


def list_fields(template: str) -> list[str]:
    """The fields of a template, as they are written between the braces.

    Raises:
        ValueError: a brace has no other end.
    """
    return [
        name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
        for _, name, spec, conversion in Formatter().parse(template)
        if name is not None
    ]
