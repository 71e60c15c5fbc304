"""`atelier top`: queues, engines, rates and cost, live."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from atelier_client.cli.connection import connect
from atelier_client.cli.engine_page import format_price, format_state
from atelier_client.cli.generation_lines import format_generations
from atelier_client.cli.interruption import handle_interruptions, raise_if_interrupted
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connection_options
from atelier_client.cli.progress import can_draw
from atelier_client.cli.totals import WINDOW, EngineTotals, total_by_engine
from atelier_client.engines import Capabilities, Engine
from atelier_client.enums import State
from atelier_client.results import Generation, Health

if TYPE_CHECKING:
    from atelier_client.client import Client

_COUNTED = 500
"""Newest generations that rates and costs are counted over."""
_ACTIVE = (State.RUNNING, State.QUEUED)
_MAX_ACTIVE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of a server at one time."""

    time: datetime
    health: Health
    capabilities: Capabilities
    totals: Mapping[str, EngineTotals]
    """Of the newest generations, by engine."""
    active: tuple[Generation, ...]
    """Those that run or wait, newest first."""


@click.command("top")
@click.option(
    "--interval",
    default=1.0,
    type=click.FloatRange(min=0.1),
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--once", is_flag=True, help="Look once, as without a terminal.")
@connection_options
def top_command(*, interval: float, once: bool, server: str, as_json: bool) -> None:
    """Watch queues, engines, rates and cost; Ctrl-C ends it."""
    handle_interruptions()
    console = Console()
    with connect(server) as client:
        if as_json:
            echo_json(_take_snapshot(client))
        elif once or not can_draw(console):
            console.print(_build_view(_take_snapshot(client), console))
        else:
            _show_live(client, console, interval)


def _show_live(client: Client, console: Console, interval: float) -> None:
    with Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                live.update(_build_view(_take_snapshot(client), console), refresh=True)
                time.sleep(interval)
                raise_if_interrupted()
        except KeyboardInterrupt:
            return


def _take_snapshot(client: Client) -> Snapshot:
    with closing(client.list(page_size=_COUNTED)) as pages:
        newest = tuple(islice(pages, _COUNTED))
    with closing(client.list(states=_ACTIVE, page_size=_MAX_ACTIVE)) as pages:
        active = tuple(islice(pages, _MAX_ACTIVE))
    now = datetime.now(UTC)
    return Snapshot(
        time=now,
        health=client.health(),
        capabilities=client.capabilities(),
        totals=total_by_engine(newest, now),
        active=active,
    )


def _build_view(snapshot: Snapshot, console: Console) -> Group:
    health = snapshot.health
    status = health.status.replace("_", " ")
    head = f"atelier {health.version}  {status}  up {_format_duration(health.uptime_seconds)}"
    lines = format_generations(snapshot.active, console.width) if snapshot.active else ()
    parts = [head, health.message, "", _build_engine_table(snapshot), "", *lines]
    return Group(*(Text(part) if isinstance(part, str) else part for part in parts))


def _build_engine_table(snapshot: Snapshot) -> Table:
    minutes = f"{WINDOW.total_seconds() / 60:g} min"
    table = Table(box=None, padding=(0, 2, 0, 0))
    for header in ("engine", "state", "runs", "waits", "backlog", minutes, "failed"):
        table.add_column(header)
    table.add_column("today")
    table.add_column("price")
    for engine in snapshot.capabilities.engines:
        mine = snapshot.totals.get(engine.name)
        ended = (
            ("0", "0", "")
            if mine is None
            else (str(mine.succeeded), str(mine.failed), mine.format_costs())
        )
        table.add_row(
            *(Text(cell) for cell in (*_describe_load(engine), *ended, format_price(engine)))
        )
    return table


def _describe_load(engine: Engine) -> tuple[str, ...]:
    load = engine.load
    backlog = "" if load.backlog_seconds is None else _format_duration(load.backlog_seconds)
    running = f"{load.running}/{load.concurrency}"
    return engine.name, format_state(engine), running, str(load.queued), backlog


def _format_duration(seconds: float) -> str:
    """A duration in its two largest units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    largest = next((at for at, (count, _) in enumerate(units) if count), len(units) - 1)
    return " ".join(f"{count} {unit}" for count, unit in units[largest : largest + 2])
