"""The model for one number of steps, where an engine has several denoisers."""

from __future__ import annotations

from dataclasses import dataclass

from atelier_engines.diffusion.families.family import Family
from atelier_engines.diffusion.schedulers import Scheduler


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """The model for one number of steps."""

    family: Family
    """The model."""
    scheduler: Scheduler
    """See Pipeline.scheduler."""
