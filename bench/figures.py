"""What a measurement finds: figures, some with a target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number."""

    name: str
    """What it is the number of."""
    value: float
    """In `unit`."""
    unit: str
    """ms, /s, MB, ×: what is printed behind the value."""
    bound: Literal["at most", "at least", ""] = ""
    """On which side of `target` the value is to lie; empty when there is no target."""
    target: float = math.nan
    """In `unit`."""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None when there is none."""
        match self.bound:
            case "at most":
                return self.value <= self.target
            case "at least":
                return self.value >= self.target
            case "":
                return None


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return quantile(values, 0.5)
