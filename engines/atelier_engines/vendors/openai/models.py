"""Image models of OpenAI: their sizes, their list prices, and when they are shut down.

Source: `openai` 3.57.0, types/image_model.py and types/image_generate_params.py (names, sizes); developers.openai.com,
api/docs/deprecations (shutdowns), api/docs/models (prices) and api/docs/guides/image-generation (sizes), read in
November 2026; docs.comfy.org, OpenAIGPTImageNodeV3 (sizes of 2.6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from atelier_engines.vendors.openai.token_prices import TokenPrices

PRICES_READ = "November 2026"
"""When the list prices were read."""
_CURRENT_PRICES = TokenPrices(text_input=5.0, image_input=8.0, image_output=30.0)
_MINI_PRICES = TokenPrices(text_input=2.0, image_input=2.5, image_output=8.0)
_LATEST = "gpt-image-2.6-sunburst or gpt-image-2.6-flare"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageModel:
    """What is known about a model."""

    any_size: bool = False
    """Whether it generates any size on the grid; otherwise the three sizes that all models support."""
    prices: TokenPrices | None = None
    """List prices; None where they are not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """The end of a model."""

    date: date
    """From this day on OpenAI refuses it."""
    successors: str
    """The models that OpenAI recommends instead."""

    def explain(self, model: str) -> str:
        """When the model was shut down, and what to use instead."""
        return f"OpenAI shut {model} down on {self.date}; use {self.successors}"


MODELS: Mapping[str, ImageModel] = {
    "gpt-image-2.6-sunburst": ImageModel(any_size=True, prices=_CURRENT_PRICES),
    "gpt-image-2.6-flare": ImageModel(any_size=True, prices=_CURRENT_PRICES),
    "gpt-image-2.5-sunburst": ImageModel(any_size=True, prices=_CURRENT_PRICES),
    "gpt-image-2.5-sunburst-2026-09-08": ImageModel(any_size=True, prices=_CURRENT_PRICES),
    "gpt-image-2.5-flare": ImageModel(any_size=True, prices=_CURRENT_PRICES),
    "gpt-image-2.5-flare-2026-09-08": ImageModel(any_size=True, prices=_CURRENT_PRICES),
    "gpt-image-2": ImageModel(any_size=True, prices=_CURRENT_PRICES),
    "gpt-image-2-2026-04-21": ImageModel(any_size=True, prices=_CURRENT_PRICES),
    "gpt-image-1.5": ImageModel(),
    "gpt-image-1-mini": ImageModel(prices=_MINI_PRICES),
    "chatgpt-image-latest": ImageModel(),
}
"""Models that can be used, or could until recently; others have the three sizes and no known price."""

SHUTDOWNS: Mapping[str, Shutdown] = {
    "dall-e-2": Shutdown(date=date(2026, 5, 12), successors=_LATEST),
    "dall-e-3": Shutdown(date=date(2026, 5, 12), successors=_LATEST),
    "gpt-image-1": Shutdown(date=date(2026, 10, 23), successors=_LATEST),
    "gpt-image-1-mini": Shutdown(date=date(2026, 12, 1), successors=_LATEST),
    "gpt-image-1.5": Shutdown(date=date(2026, 12, 1), successors=_LATEST),
    "gpt-image-1.5-2025-12-16": Shutdown(date=date(2026, 12, 1), successors=_LATEST),
    "chatgpt-image-latest": Shutdown(date=date(2026, 12, 1), successors=_LATEST),
}
"""Models whose end has come or is announced."""


def find_model(name: str) -> ImageModel:
    """What is known about the model; the least that all have, if its name is not known."""
    return MODELS.get(name, ImageModel())


def find_shutdown(name: str, today: date) -> Shutdown | None:
    """The end of the model, if it has come."""
    shutdown = SHUTDOWNS.get(name)
    return shutdown if shutdown is not None and shutdown.date <= today else None
