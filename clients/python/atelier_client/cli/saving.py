"""Saves the outputs of a generation, and prints where they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from atelier_client.cli.contact_sheets import Entry, write_contact_sheet
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.output_files import find_unused, save_outputs
from atelier_client.cli.output_names import Target, slugify
from atelier_client.enums import SelectionReason
from atelier_client.results import Generation


def save_and_print(
    finished: Generation, target: Target, *, as_json: bool, grid: bool = False
) -> None:
    """Save every output, with `grid` a contact sheet of several images, and print file, seed, engine and time."""
    paths = save_outputs(finished, target)
    sheets = _save_sheet(finished, paths, target) if grid and len(finished.images) > 1 else ()
    if as_json:
        echo_json({"generation": finished, "files": [str(path) for path in (*paths, *sheets)]})
        return
    took = "" if finished.seconds is None else f", {finished.seconds:.1f} s"
    why = _describe_reason(finished)
    for path, made in zip(paths, finished.outputs, strict=True):
        flagged = ", flagged by a safety check" if made.flagged else ""
        click.echo(f"{path}  (seed {made.seed}, engine {finished.engine}{why}{took}{flagged})")
    for path in sheets:
        click.echo(str(path))


def _save_sheet(finished: Generation, paths: Sequence[Path], target: Target) -> tuple[Path, ...]:
    """Write the sheet beside the first image; none where Pillow is not installed, which is said on stderr."""
    path = paths[0].with_name(f"{slugify(finished.prompt)}-grid.png")
    sheet = path if target.force else find_unused(path)
    entries = [
        Entry(path=path, label=f"seed {made.seed}")
        for path, made in zip(paths, finished.outputs, strict=True)
    ]
    if write_contact_sheet(sheet, entries):
        return (sheet,)
    click.echo("no contact sheet: pip install 'atelier-client[images]'", err=True)
    return ()


def _describe_reason(finished: Generation) -> str:
    """Why the engine was selected, in two words; empty where the caller named it."""
    selection = None if finished.receipt is None else finished.receipt.selection
    match None if selection is None else selection.reason:
        case SelectionReason.RULE:
            return " by a rule"
        case SelectionReason.DEFAULT:
            return " by default"
        case (
            SelectionReason.CHEAPEST | SelectionReason.FASTEST | SelectionReason.FALLBACK as reason
        ):
            return f" as {reason}"
        case _:
            return ""
