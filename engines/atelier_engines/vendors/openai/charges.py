"""The charge for one image: the tokens that the service counted, and what they cost as far as that is known."""

from __future__ import annotations

from atelier_engines.event import Charge
from atelier_engines.vendors.openai.config import OpenaiConfig
from atelier_engines.vendors.openai.models import PRICES_READ
from atelier_engines.vendors.openai.token_prices import TokenUsage, find_cost


def find_charge(usage: TokenUsage, config: OpenaiConfig) -> Charge:
    """The charge by the configured prices of tokens, else by the configured price, else by the list prices.

    Its amount is None where the configured price of the engine holds, and where no price is known.
    """
    counted = usage.counted()
    if config.token_prices is not None:
        prices, source = config.token_prices, "the configured token_prices"
    elif config.price is not None:
        return Charge(usage=counted, explanation="by the configured price of the engine")
    elif config.list_prices is not None:
        prices, source = config.list_prices, f"OpenAI's list prices of {PRICES_READ}"
    else:
        explanation = f"unknown: no prices of {config.model} are known; set token_prices"
        return Charge(usage=counted, explanation=explanation)
    amount = find_cost(usage, prices)
    if amount is None:
        explanation = f"unknown: the service counted tokens that {source} do not cover"
        return Charge(usage=counted, explanation=explanation)
    return Charge(
        usage=counted,
        amount=amount,
        currency=prices.currency,
        explanation=f"by the tokens counted and {source}",
    )
