"""Saves the outputs of a generation, and prints where they are."""

from __future__ import annotations

import click

from atelier_client.cli.json_output import echo_json
from atelier_client.cli.output_files import save_outputs
from atelier_client.cli.output_names import Target
from atelier_client.enums import SelectionReason
from atelier_client.results import Generation


def save_and_print(finished: Generation, target: Target, *, as_json: bool) -> None:
    """Save every output, and print its file, seed, engine and time."""
    paths = save_outputs(finished, target)
    if as_json:
        echo_json({"generation": finished, "files": [str(path) for path in paths]})
        return
    took = "" if finished.seconds is None else f", {finished.seconds:.1f} s"
    why = _describe_reason(finished)
    for path, made in zip(paths, finished.outputs, strict=True):
        flagged = ", flagged by a safety check" if made.flagged else ""
        click.echo(f"{path}  (seed {made.seed}, engine {finished.engine}{why}{took}{flagged})")


def _describe_reason(finished: Generation) -> str:
    """Why the engine was selected, in two words; empty where the caller named it."""
    selection = None if finished.receipt is None else finished.receipt.selection
    match None if selection is None else selection.reason:
        case SelectionReason.DEFAULT:
            return " by default"
        case (
            SelectionReason.CHEAPEST | SelectionReason.FASTEST | SelectionReason.FALLBACK as reason
        ):
            return f" as {reason}"
        case _:
            return ""
