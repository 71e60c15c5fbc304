"""What the newest generations say about each engine: how many ended, how many failed, what they cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from atelier_client.enums import State
from atelier_client.results import Generation

WINDOW = timedelta(minutes=5)
"""Time before now over which ends are counted."""


@dataclass(slots=True)
class EngineTotals:
    """Totals of one engine."""

    succeeded: int = 0
    """Ends in the window."""
    failed: int = 0
    costs: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Cost of what ended today (UTC, as budgets count), by currency."""

    def format_costs(self) -> str:
        """The amounts with their currencies; empty where nothing was billed."""
        return ", ".join(f"{amount:.4g} {currency}" for currency, amount in self.costs.items())


def total_by_engine(generations: Iterable[Generation], now: datetime) -> Mapping[str, EngineTotals]:
    """Totals by the name of the engine; `now` has a time zone."""
    totals: dict[str, EngineTotals] = defaultdict(EngineTotals)
    for generation in generations:
        if generation.end_time is not None:
            _add(totals[generation.engine], generation, generation.end_time, now)
    return totals


def _add(totals: EngineTotals, generation: Generation, end: datetime, now: datetime) -> None:
    if end > now - WINDOW:
        totals.succeeded += generation.state is State.SUCCEEDED
        totals.failed += generation.state is State.FAILED
    cost = None if generation.receipt is None else generation.receipt.cost
    if cost is not None and end.astimezone(UTC).date() == now.astimezone(UTC).date():
        totals.costs[cost.currency] += cost.amount
