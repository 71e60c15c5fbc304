"""States of the rented instance, and faults that end it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atelier_engines.forwarding.engine import ForwardingEngine
    from atelier_engines.vendors.vastai.schemas import Instance

_ENDED_STATUSES = frozenset({"exited", "offline", "unknown", "stopped", "frozen"})
_FATAL_MESSAGES = ("no such image", "oci runtime", "error response from daemon", "manifest unknown")
_MAX_MESSAGE_LENGTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Rental:
    """An instance that is being paid for."""

    instance_id: int
    machine_id: int
    """Id of the host, which is excluded if the instance fails."""
    price_per_hour: float
    """Price in US dollars."""
    since: float
    """Start of the rental, by the provisioner's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """No instance is rented."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting:
    """An instance is rented, but Atelier on it does not respond yet."""

    rental: Rental


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ready:
    """Atelier on the instance responds."""

    rental: Rental
    engine: ForwardingEngine
    """Started engine that forwards tasks to the instance."""
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the instance is released; all tasks on it are then lost."""


State = Absent | Starting | Ready


def describe_fault(instance: Instance | None) -> str | None:
    """Say why the instance can no longer become ready; None if it still may."""
    if instance is None:
        return "it no longer exists"
    if instance.actual_status in _ENDED_STATUSES:
        return f"it is {instance.actual_status}"
    message = (instance.status_msg or "").lower()
    if instance.actual_status != "running" and any(sign in message for sign in _FATAL_MESSAGES):
        return f"it cannot start: {(instance.status_msg or '')[:_MAX_MESSAGE_LENGTH]}"
    return None
