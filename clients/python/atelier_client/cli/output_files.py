"""Saves outputs, and chooses their file names."""

from __future__ import annotations

import re
from pathlib import Path

from atelier_client.errors import InvalidRequestError
from atelier_client.results import Generation

SUFFIXES = {
    "image/png": ".png",
    "image/webp": ".webp",
    "image/jpeg": ".jpg",
    "image/avif": ".avif",
    "audio/wav": ".wav",
    "audio/flac": ".flac",
    "audio/ogg": ".ogg",
}
_MAX_SLUG_LENGTH = 48


def save_outputs(generation: Generation, target: Path | None) -> tuple[Path, ...]:
    """Save every output, and return the files.

    One output is saved as `target`; several are numbered `name-1.png`, `name-2.png` ….
    Without a target the file is named after the prompt, and no existing file is overwritten.

    Raises:
        InvalidRequestError: a file cannot be written.
    """
    many = len(generation.outputs) > 1
    saved = []
    for number, output in enumerate(generation.outputs, start=1):
        suffix = SUFFIXES.get(output.media_type, ".bin")
        path = target or Path(slugify(generation.prompt) + suffix)
        if many:
            path = path.with_stem(f"{path.stem}-{number}")
        if target is None:
            path = _find_unused(path)
        try:
            saved.append(output.save(path))
        except OSError as error:
            raise InvalidRequestError(
                f"cannot write {path}: {error.strerror}; `atelier show {generation.id}"
                " --output FILE` saves it to another file"
            ) from error
    return tuple(saved)


def slugify(prompt: str) -> str:
    """A prompt as a file name: `a-red-apple`."""
    words = re.sub(r"[^\w]+", "-", prompt.lower()).strip("-_")
    return words[:_MAX_SLUG_LENGTH].rstrip("-_") or "output"


def _find_unused(path: Path) -> Path:
    number = 2
    free = path
    while free.exists():
        free = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return free
