"""Runs a task with every combination of some values, as `generate --matrix steps=4,8` asks for."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atelier_client.cli.batch import run_batch
from atelier_client.cli.batch_items import BatchItem, set_field
from atelier_client.cli.batch_manifest import BatchManifest
from atelier_client.cli.batch_running import Spending
from atelier_client.cli.output_files import find_unused
from atelier_client.cli.output_names import list_fields, slugify
from atelier_client.cli.task_running import RunArguments
from atelier_client.tasks import RANDOM_SEED, AudioTask, ImageTask, RequestKeywords

if TYPE_CHECKING:
    from atelier_client.client import Client

Axis = tuple[str, tuple[str, ...]]
_CONCURRENCY = 4
_SEED_BITS = 32


def parse_axis(text: str) -> Axis:
    """The field and the values of `steps=4,8`."""
    name, equals, values = text.partition("=")
    if not (name and equals and values):
        raise click.BadParameter(f"{text!r} is not FIELD=VALUE,VALUE")
    try:
        for value in values.split(","):
            set_field(BatchItem(number=1, task=ImageTask(prompt="")), name, value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return name, tuple(values.split(","))


def run_matrix(
    client: Client,
    task: ImageTask | AudioTask,
    keywords: RequestKeywords,
    axes: Sequence[Axis],
    run: RunArguments,
) -> int:
    """Run every combination with one seed, and write a labelled sheet; returns the exit code.

    Raises:
        click.UsageError: the task is audio, or --output names a file.
    """
    if not isinstance(task, ImageTask):
        raise click.UsageError("--matrix is an option for images, and this task is audio")
    if run.detach or keywords.get("request_id"):
        raise click.UsageError("--matrix runs several tasks: leave out --detach and --request-id")
    target = run.parse_target()
    folder = Path(run.output) if run.output else find_unused(Path(slugify(task.prompt)))
    if target.format or (target.is_named and any(list_fields(target.template))) or folder.is_file():
        raise click.UsageError(
            "--matrix saves several images: --output must be a folder without fields"
        )
    items = build_matrix(task, keywords.get("engine", ""), axes)
    with BatchManifest(folder) as manifest:
        return run_batch(
            items,
            manifest,
            client,
            Spending(limit=None),
            _CONCURRENCY,
            keywords=keywords,
            as_json=run.as_json,
            columns=len(axes[-1][1]),
        )


def build_matrix(task: ImageTask, engine: str, axes: Sequence[Axis]) -> tuple[BatchItem, ...]:
    """One task for every combination, the last axis changing fastest, all with the same seed."""
    if task.seed in {None, RANDOM_SEED}:
        task = replace(task, seed=secrets.randbits(_SEED_BITS))
    items = []
    for number, values in enumerate(product(*(values for _, values in axes)), start=1):
        chosen = [(name, value) for (name, _), value in zip(axes, values, strict=True)]
        label = " ".join(f"{name}={value}" for name, value in chosen)
        item = BatchItem(number=number, task=task, engine=engine, label=label)
        for name, value in chosen:
            item = set_field(item, name, value)
        items.append(item)
    return tuple(items)
