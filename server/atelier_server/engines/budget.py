"""What may be spent on an engine in one day (UTC), and what has been."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyBudget:
    """The limit of one engine, and the cost of its generations on the day of the last one."""

    limit: float | None = None
    """In the engine's currency; None for no limit."""
    day: date = date.min
    """The day (UTC) that `amount` was spent on."""
    amount: float = 0.0
    """Cost of the generations that ended on that day."""

    @property
    def spent_today(self) -> float:
        """Cost of the generations that have ended since 00:00 UTC."""
        return self.amount if self.day == _today() else 0.0

    @property
    def exhausted(self) -> bool:
        """Whether nothing more may be spent until 00:00 UTC."""
        return self.limit is not None and self.spent_today >= self.limit

    def add(self, amount: float) -> DailyBudget:
        """The budget after one more cost of today."""
        return replace(self, day=_today(), amount=self.spent_today + amount)


def _today() -> date:
    return datetime.now(UTC).date()
