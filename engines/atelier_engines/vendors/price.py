"""Price of a remote service as configured: no service reports it through its API."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from atelier_engines.capabilities import Price, PriceUnit
from atelier_engines.config import Section


class PriceConfig(Section):
    """Price section of a remote engine."""

    amount: float = Field(ge=0, allow_inf_nan=False, description="Price of one unit.")
    unit: Literal["image", "megapixel", "second"] = Field(
        default="image", description="What one unit is."
    )
    currency: str = Field(
        default="USD", pattern="^[A-Z]{3}$", description="ISO 4217 code of the currency."
    )

    def price(self) -> Price:
        """The price for the engine's capabilities."""
        return Price(amount=self.amount, unit=PriceUnit(self.unit), currency=self.currency)
