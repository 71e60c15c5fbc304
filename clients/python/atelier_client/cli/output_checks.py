"""Finds out what would keep outputs from being saved, before anything is started that may cost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from atelier_client.cli.output_names import (
    Target,
    describe_existing,
    get_suffix,
    list_fields,
    name_file,
    number_path,
    slugify,
)
from atelier_client.enums import AudioFormat, ImageFormat
from atelier_client.tasks import AudioTask, ImageTask


def check_target(target: Target, task: ImageTask | AudioTask, engine: str) -> None:
    """Refuse a target whose folder cannot be written, or whose file exists as far as its name is known yet.

    Raises:
        click.UsageError: with what to change.
    """
    try:
        _check_folder(target)
        if target.is_named and not target.force:
            for path in _list_known_paths(target, task, engine):
                if path.exists():
                    raise click.UsageError(describe_existing(path))
    except OSError as error:  # the name is too long
        raise click.UsageError(f"cannot write {target.template}: {error.strerror}") from error


def choose_format(task: ImageTask | AudioTask, target: Target) -> ImageTask | AudioTask:
    """The task of an earlier generation in the format of the suffix of its new target.

    Raises:
        click.UsageError: there is no such format for images, or for audio.
    """
    form = target.format
    if form is None:
        return task
    if isinstance(task, ImageTask) and isinstance(form, ImageFormat):
        return replace(task, format=form)
    if isinstance(task, AudioTask) and isinstance(form, AudioFormat):
        return replace(task, format=form)
    kind = "images" if isinstance(task, ImageTask) else "audio"
    raise click.UsageError(f"--output {target.template}: the task makes {kind}, not {form}")


def _check_folder(target: Target) -> None:
    """Look at the folder that is in the template before its first field, or at the nearest one above that exists."""
    folder = Path(target.literal_start + "x").parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise click.UsageError(f"cannot write into {folder}: it is a file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise click.UsageError(f"cannot write into {folder}: it is read-only, or not yours")


def _list_known_paths(target: Target, task: ImageTask | AudioTask, engine: str) -> Iterator[Path]:
    """The files of the task; none where a field of the template is known only later."""
    count = (task.num_images if isinstance(task, ImageTask) else None) or 1
    suffix = get_suffix(task.format) or (".png" if isinstance(task, ImageTask) else ".wav")
    style = task.style if isinstance(task, ImageTask) else ""
    known = {
        "prompt": slugify(task.prompt),
        "style_id": style or "none",
        "ext": suffix[1:],
        **({"engine": engine} if engine else {}),
    }
    fields = set(list_fields(target.template))
    if not fields <= {*known, "index"}:
        return
    for index in range(1, count + 1):
        path = name_file(target.template, {**known, "index": index}, suffix)
        yield path if count == 1 or "index" in fields else number_path(path, index)
