"""`atelier batch`: runs the tasks in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atelier_client.cli.batch_display import BatchDisplay, echo_summary
from atelier_client.cli.batch_items import BatchItem, build_item, read_items, set_field
from atelier_client.cli.batch_manifest import NAME, BatchManifest
from atelier_client.cli.batch_running import BatchRun, Spending
from atelier_client.cli.connection import connect
from atelier_client.cli.contact_sheets import Entry, write_contact_sheet
from atelier_client.cli.exit_codes import ExitCode
from atelier_client.cli.interruption import handle_interruptions
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connection_options
from atelier_client.enums import Priority
from atelier_client.tasks import RequestKeywords

if TYPE_CHECKING:
    from atelier_client.client import Client

SHEET = "contact-sheet.png"


def _parse_default(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not FIELD=VALUE")
    try:
        set_field(build_item(1, {"prompt": "x"}), name, value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return name, value


@click.command("batch")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the images and results.  [default: named after FILE]",
)
@click.option(
    "--set",
    "defaults",
    type=_parse_default,
    multiple=True,
    metavar="FIELD=VALUE",
    help="Value for tasks that do not give this field; may be repeated.",
)
@click.option("--concurrency", type=click.IntRange(1, 64), default=4, show_default=True)
@click.option(
    "--max-cost", type=click.FloatRange(min=0), help="Start nothing that may cost more in all."
)
@click.option(
    "--priority",
    type=click.Choice([word.value for word in list(Priority)[1:]]),
    default=Priority.BATCH.value,
    show_default=True,
    help="batch: your interactive generations go first.",
)
@connection_options
def batch_command(
    *,
    file: Path,
    folder: Path | None,
    defaults: tuple[tuple[str, str], ...],
    concurrency: int,
    max_cost: float | None,
    priority: str,
    server: str,
    as_json: bool,
) -> int:
    """Run the tasks in FILE: .txt with a prompt a line, .csv, or .jsonl with an object a line.

    The same command continues after an interruption, and tries what failed again. Images, results.jsonl and
    contact-sheet.png are in the folder. Exits with 1 if a task failed or was not started.
    """
    items = read_items(file, dict(defaults))
    with BatchManifest(folder or file.with_suffix("")) as manifest, connect(server) as client:
        return run_batch(
            items,
            manifest,
            client,
            Spending(limit=max_cost),
            concurrency,
            as_json=as_json,
            keywords={"priority": Priority(priority)},
        )


def run_batch(
    items: Sequence[BatchItem],
    manifest: BatchManifest,
    client: Client,
    spending: Spending,
    concurrency: int,
    *,
    as_json: bool,
    keywords: RequestKeywords | None = None,
    columns: int | None = None,
) -> int:
    """Run the tasks that have not succeeded before, and write the sheet, in so many columns; returns the exit code."""
    handle_interruptions()
    before = [result for item in items if (result := manifest.find_success(item)) is not None]
    spending.spent = sum(result.cost for result in before)
    left = [item for item in items if manifest.find_success(item) is None]
    display = BatchDisplay(total=len(left), as_json=as_json)
    with display:
        run = BatchRun(
            client=client,
            manifest=manifest,
            spending=spending,
            keywords=keywords or {},
            report=display.show,
        )
        try:
            run.run(left, concurrency)
        except KeyboardInterrupt:
            click.echo(
                "interrupted: the same command continues; what runs goes on at the server", err=True
            )
            return ExitCode.INTERRUPTED
    sheet = _write_sheet(items, manifest, columns)
    if as_json:
        echo_json(
            {
                "made": display.made,
                "failed": display.failed,
                "left": display.left,
                "before": len(before),
                "costs": display.costs,
                "results": str(manifest.folder / NAME),
                "sheet": sheet,
            }
        )
    else:
        echo_summary(display, len(before), sheet or str(manifest.folder / NAME))
    return ExitCode.FAILED if display.failed or display.left else ExitCode.OK


def _write_sheet(items: Sequence[BatchItem], manifest: BatchManifest, columns: int | None) -> str:
    """Write the contact sheet of what has succeeded, and return its path; empty if there is none."""
    entries = [
        Entry(path=manifest.folder / name, label=item.label or item.task.prompt)
        for item in items
        if (result := manifest.find_success(item)) is not None
        for name in result.files
    ]
    path = manifest.folder / SHEET
    return str(path) if entries and write_contact_sheet(path, entries, columns) else ""
