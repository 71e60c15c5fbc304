"""How a rented machine stands, and what is wrong with one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atelier_engines.forwarding.engine import ForwardingEngine
    from atelier_engines.vendors.vastai.wire import Instance

_OVER = frozenset({"exited", "offline", "unknown", "stopped", "frozen"})
_FATAL = ("no such image", "oci runtime", "error response from daemon", "manifest unknown")
_LONGEST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Rental:
    """What is being paid for."""

    instance_id: int
    machine_id: int
    """Of the host: what is excluded when it turns out bad."""
    price_per_hour: float
    """US dollars."""
    since: float
    """On the keeper's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """Nothing is rented."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Booting:
    """Rented, but Atelier does not answer there yet."""

    rental: Rental


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ready:
    """Atelier answers there."""

    rental: Rental
    engine: ForwardingEngine
    """Speaks to it; started."""
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the machine is given up, and all work on it with it."""


State = Absent | Booting | Ready


def fault_of(instance: Instance | None) -> str | None:
    """Why the machine will never serve (again); None while it may."""
    if instance is None:
        return "it is gone"
    if instance.actual_status in _OVER:
        return f"it is {instance.actual_status}"
    says = (instance.status_msg or "").lower()
    if instance.actual_status != "running" and any(sign in says for sign in _FATAL):
        return f"it cannot start: {(instance.status_msg or '')[:_LONGEST]}"
    return None
