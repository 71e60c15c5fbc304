"""Saves outputs under the names that `output_names` chooses."""

from __future__ import annotations

from pathlib import Path

from atelier_client.cli.output_names import (
    Target,
    describe_existing,
    fits_suffix,
    name_outputs,
    number_path,
)
from atelier_client.errors import InvalidRequestError
from atelier_client.outputs import Audio, Image
from atelier_client.results import Generation
from atelier_client.whole_files import overwrite, write_new


def save_outputs(generation: Generation, target: Target) -> tuple[Path, ...]:
    """Save every output, and return the files; missing folders are created.

    Raises:
        InvalidRequestError: a file exists, cannot be written, or has the suffix of another format. The
            message names the command that saves the outputs elsewhere.
    """
    return tuple(
        _save(path, output, target, generation.id)
        for path, output in zip(name_outputs(generation, target), generation.outputs, strict=True)
    )


def _save(path: Path, output: Image | Audio, target: Target, generation_id: str) -> Path:
    remedy = f"`atelier show {generation_id} --output FILE` saves it to another file"
    if not fits_suffix(path, output.media_type):
        raise InvalidRequestError(f"not saved as {path}: it is {output.media_type}; {remedy}")
    free = path if target.is_named or target.force else find_unused(path)
    try:
        free.parent.mkdir(parents=True, exist_ok=True)
        (overwrite if target.force else write_new)(free, output.data)
    except FileExistsError as error:
        message = (
            describe_existing(free) if free.exists() else f"cannot write {free}: {error.strerror}"
        )
        raise InvalidRequestError(f"{message}; {remedy}") from error
    except OSError as error:
        raise InvalidRequestError(f"cannot write {free}: {error.strerror}; {remedy}") from error
    return free


def find_unused(path: Path) -> Path:
    """The path, or the first numbered one that does not exist."""
    number = 2
    free = path
    while free.exists():
        free = number_path(path, number)
        number += 1
    return free
