"""What a request costs by the tokens that the service counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import Field

from atelier_engines.config import Section

_PRICED_TOKENS = 1_000_000


class TokenPrices(Section):
    """Prices of one million tokens."""

    text_input: float = Field(ge=0, description="Price of 1,000,000 text tokens of the request.")
    image_input: float = Field(ge=0, description="Price of 1,000,000 image tokens of the request.")
    image_output: float = Field(ge=0, description="Price of 1,000,000 image tokens of the result.")
    text_output: float | None = Field(
        default=None,
        ge=0,
        description="Price of 1,000,000 text tokens of the result; where it is null and there are any, the cost is "
        "unknown.",
    )
    currency: str = Field(
        default="USD", pattern="^[A-Z]{3}$", description="ISO 4217 code of the currency."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """Tokens that the service counted for one image; None for a number that it did not tell."""

    text_input: int | None = None
    image_input: int | None = None
    text_output: int | None = None
    image_output: int | None = None

    def counted(self) -> dict[str, int]:
        """The numbers that the service told, by what was counted."""
        names = ("text_input", "image_input", "text_output", "image_output")
        numbers = {f"{name}_tokens": getattr(self, name) for name in names}
        return {name: number for name, number in numbers.items() if number is not None}


def find_cost(usage: TokenUsage, prices: TokenPrices) -> float | None:
    """Cost of the tokens, in the currency of the prices; None where a number or its price is unknown."""
    total = 0.0
    for tokens, price in _iter_priced(usage, prices):
        if tokens is None or (price is None and tokens):
            return None
        total += tokens * (price or 0.0)
    return total / _PRICED_TOKENS


def _iter_priced(
    usage: TokenUsage, prices: TokenPrices
) -> Iterator[tuple[int | None, float | None]]:
    yield usage.text_input, prices.text_input
    yield usage.image_input, prices.image_input
    yield usage.image_output, prices.image_output
    yield usage.text_output or 0, prices.text_output
