"""What a measurement finds: figures, some with a target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value, and its target if it has one."""

    name: str
    """Name, unique within its measurement together with `unit`."""
    value: float
    """The measured value, in `unit`."""
    unit: str
    """Unit that is printed after the value: ms, /s, MB, ×."""
    bound: Literal["at most", "at least", ""] = ""
    """On which side of `target` the value is to lie; empty when there is no target."""
    target: float = math.nan
    """The bound on `value`, in `unit`."""

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
    """The median of the values."""
    return quantile(values, 0.5)
