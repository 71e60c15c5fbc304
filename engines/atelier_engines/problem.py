"""What keeps an engine from working on this machine, for `atelier doctor`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is missing."""

    text: str
    """What, and which setting needs it."""
    remedy: str
    """A command, or what to change in the configuration."""
