"""How much one caller may have, and whether one generation more is too much. Pure: no I/O, no clock of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from atelier_server.errors import QueuedQuotaError, TenantQuotaError

_SOON_SECONDS = (
    1.0  # until something of the caller may have begun or ended, where nothing is known of that
)
MAX_RETRY_SECONDS = 300.0
"""After so long it is worth another try in any case: limits change, and what waits may be cancelled."""

RunningLimits: TypeAlias = Callable[[str], int | None]
"""How many generations of that caller may run at a time, over all engines; None for any number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a generation takes of its caller's part of an engine."""

    cost: float = 1.0
    """Cost units, see `estimates.cost_units`; more than 0."""
    weight: float = 1.0
    """Of the caller: one with twice the weight is given twice the cost units; more than 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """How much a caller may have, over all engines; None stands for no limit."""

    max_unfinished: int | None = None
    """Generations that wait or run."""
    max_queued: int | None = None
    """Generations that wait."""
    max_queued_cost: float | None = None
    """Cost units of what waits."""
    daily_cost: float | None = None
    """Cost units of what has begun since midnight UTC, and of what waits."""
    daily_budget: float | None = None
    """Money that what has ended since midnight UTC has cost."""
    max_stored_bytes: int | None = None
    """Bytes of artifacts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a caller has, over all engines."""

    waiting: int
    """Generations that wait."""
    running: int
    """Generations that run."""
    waiting_cost: float
    """Cost units of what waits."""
    used_today: float
    """Cost units of what has begun since midnight UTC."""
    spent_today: float
    """Money that what has ended since midnight UTC has cost."""
    stored_bytes: int
    """Bytes of artifacts; 0 if the allowance does not limit them."""
    seconds_to_midnight: float
    """Seconds that are left of the day."""
    seconds_to_expiry: float = MAX_RETRY_SECONDS
    """Seconds until the first of its artifacts expires, if that is soon and the allowance limits bytes."""


def require_allowed(tenant: str, allowance: Allowance, usage: Usage, cost: float) -> None:
    """Return if the tenant may have one generation more, of so many cost units.

    Raises:
        TenantQuotaError: it may not; says when it may.
    """
    _require_numbers(tenant, allowance, usage)
    _require_cost(tenant, allowance, usage, cost)
    budget = allowance.daily_budget
    if budget is not None and usage.spent_today >= budget:
        text = f"may spend {budget:g} a day, and has; {_describe_midnight(usage)}"
        raise _refuse(tenant, text, usage.seconds_to_midnight)
    require_storage(tenant, allowance, usage)


def require_storage(tenant: str, allowance: Allowance, usage: Usage) -> None:
    """Return if the tenant may store one artifact more.

    Raises:
        TenantQuotaError: it has stored as much as it may.
    """
    limit = allowance.max_stored_bytes
    if limit is not None and usage.stored_bytes >= limit:
        text = f"may store {_count(limit, 'byte')}, and has; wait until artifacts expire"
        raise _refuse(tenant, text, usage.seconds_to_expiry)


def _require_numbers(tenant: str, allowance: Allowance, usage: Usage) -> None:
    limit = allowance.max_unfinished
    if limit is not None and usage.waiting + usage.running >= limit:
        text = f"may have {_count(limit)} waiting or running; wait until one has ended"
        raise _refuse_more(tenant, text)
    limit = allowance.max_queued
    if limit is not None and usage.waiting >= limit:
        text = f"may have {_count(limit)} waiting; wait until one has begun"
        raise _refuse_more(tenant, text)


def _require_cost(tenant: str, allowance: Allowance, usage: Usage, cost: float) -> None:
    limit = allowance.max_queued_cost
    if limit is not None and usage.waiting_cost + cost > limit:
        text = f"may have {limit:g} cost units that wait; this task has {cost:g}"
        raise _refuse_more(tenant, text) if cost <= limit else _refuse(tenant, text, None)
    limit = allowance.daily_cost
    if limit is not None and usage.used_today + usage.waiting_cost + cost > limit:
        text = f"may use {limit:g} cost units a day; this task has {cost:g}"
        if cost <= limit:
            text += f"; {_describe_midnight(usage)}"
        raise _refuse(tenant, text, usage.seconds_to_midnight if cost <= limit else None)


def _refuse(tenant: str, text: str, retry_after_seconds: float | None) -> TenantQuotaError:
    """The error; without a time to try again when the task alone is too much."""
    text = f"tenant {tenant!r} {text}"
    if retry_after_seconds is None:
        return TenantQuotaError(tenant, f"{text}: make it smaller", retry_after_seconds=None)
    seconds = min(max(retry_after_seconds, _SOON_SECONDS), MAX_RETRY_SECONDS)
    return TenantQuotaError(tenant, text, retry_after_seconds=seconds)


def _refuse_more(tenant: str, text: str) -> QueuedQuotaError:
    """The error where something of the tenant has to go on first; whoever can estimate when does."""
    return QueuedQuotaError(tenant, f"tenant {tenant!r} {text}", retry_after_seconds=_SOON_SECONDS)


def _count(number: int, noun: str = "generation") -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _describe_midnight(usage: Usage) -> str:
    hours, minutes = divmod(math.ceil(usage.seconds_to_midnight / 60), 60)
    return f"the next day begins at 00:00 UTC, in {hours} h {minutes} min"
