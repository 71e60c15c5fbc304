"""`atelier trace`: where the time of a generation went, as a waterfall."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import click

from atelier_client.cli.completion_values import complete_id
from atelier_client.cli.connection import connect
from atelier_client.cli.generation_ids import resolve_id
from atelier_client.cli.generation_lines import shorten
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connection_options
from atelier_client.results import Generation, Timing

_BAR_WIDTH = 30
_NAME_WIDTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One line of the waterfall."""

    name: str
    """Queue, attempt, or a stage of the last attempt."""
    start: float
    """Seconds after the acceptance."""
    seconds: float
    """How long it took."""
    note: str = ""
    """Engine and outcome of an attempt."""


@click.command("trace")
@click.argument("generation_id", metavar="ID", shell_complete=complete_id)
@connection_options
def trace_command(*, generation_id: str, server: str, as_json: bool) -> None:
    """Show where the time of the generation ID went: queue, attempts, stages.

    ID may be the beginning of one, or @last. Stages are those of the last attempt; one that repeats is shown once,
    where it began first, with all of its time.
    """
    with connect(server) as client:
        generation = client.get(resolve_id(client, generation_id))
    intervals = list(find_intervals(generation))
    if as_json:
        echo_json({"generation": generation.id, "intervals": intervals})
        return
    width = shutil.get_terminal_size().columns
    for line in draw_waterfall(intervals):
        click.echo(shorten(line, width))


def find_intervals(generation: Generation) -> Iterator[Interval]:
    """The time in the queue, every attempt, and the stages of the last one; nothing before the first attempt ends."""
    accepted, receipt = generation.create_time, generation.receipt
    if accepted is None or receipt is None:
        return
    waited_from = 0.0
    for attempt in receipt.attempts:
        start, end = (_seconds(accepted, each) for each in (attempt.start_time, attempt.end_time))
        yield Interval(name="queue", start=waited_from, seconds=max(0.0, start - waited_from))
        note = f"{attempt.engine}, {attempt.outcome.value}"
        name = f"attempt {attempt.number}"
        yield Interval(name=name, start=start, seconds=max(0.0, end - start), note=note)
        if attempt is receipt.attempts[-1]:
            yield from _place_stages(receipt.timings, start)
        waited_from = end


def _place_stages(timings: Sequence[Timing], start: float) -> Iterator[Interval]:
    """The stages one after the other, in the order in which they began."""
    for timing in timings:
        yield Interval(name=f"  {timing.stage}", start=start, seconds=timing.seconds)
        start += timing.seconds


def _seconds(since: datetime, moment: datetime | None) -> float:
    return 0.0 if moment is None else (moment - since).total_seconds()


def draw_waterfall(intervals: Sequence[Interval]) -> Iterator[str]:
    """A line for each: its name, its bar on the same scale for all, its seconds."""
    total = max((each.start + each.seconds for each in intervals), default=0.0)
    for each in intervals:
        scale = _BAR_WIDTH / total if total else 0.0
        left = min(_BAR_WIDTH - 1, round(each.start * scale))
        size = min(_BAR_WIDTH - left, max(1, round(each.seconds * scale)))
        bar = (" " * left + "█" * size).ljust(_BAR_WIDTH)
        name = each.name[:_NAME_WIDTH].ljust(_NAME_WIDTH)
        yield f"{name} {bar} {each.seconds:8.3f} s  {each.note}".rstrip()
