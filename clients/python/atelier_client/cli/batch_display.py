"""Shows the progress of a batch: one bar on a terminal, a line for each task in a log, JSON with `--json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from atelier_client.cli.batch_items import BatchItem
from atelier_client.cli.batch_manifest import BatchResult
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.printable import strip_control_characters
from atelier_client.cli.progress import can_draw


@dataclass(slots=True, kw_only=True)
class BatchDisplay:
    """Counts the results and shows each; a context manager around the run."""

    total: int
    as_json: bool
    made: int = 0
    failed: int = 0
    left: int = 0
    """Not started, because of the limit of cost."""
    costs: dict[str, float] = field(default_factory=dict)
    """By currency."""
    _progress: Progress = field(init=False)

    def __post_init__(self) -> None:
        """Make the bar; it is shown on a terminal only."""
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=self.as_json or not can_draw(console),
        )
        self._progress.add_task("running", total=self.total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, item: BatchItem, result: BatchResult | None) -> None:
        """Count and show how a task ended; None for one that was not started."""
        self._count(result)
        task = self._progress.tasks[0].id
        self._progress.update(task, advance=1, description=self.summarize())
        if result is None:
            return
        if self.as_json:
            echo_json({"result": asdict(result)})
        elif result.error or self._progress.disable:
            told = result.error or ", ".join(result.files)
            line = strip_control_characters(f"{item.number}: {told}")
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def summarize(self) -> str:
        """The counts in one line."""
        parts = [f"{self.made} made"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{self.left} not started: the limit of cost"] if self.left else []
        parts += [f"{amount:.4g} {currency}" for currency, amount in self.costs.items()]
        return ", ".join(parts)

    def _count(self, result: BatchResult | None) -> None:
        if result is None:
            self.left += 1
            return
        self.made += result.state == "succeeded"
        self.failed += result.state != "succeeded"
        if result.cost:
            self.costs[result.currency] = self.costs.get(result.currency, 0.0) + result.cost


def echo_summary(display: BatchDisplay, skipped: int, where: str) -> None:
    """Say how the batch ended, and where its results are."""
    before = f", {skipped} made before" if skipped else ""
    click.echo(f"{display.summarize()}{before}: {where}")
