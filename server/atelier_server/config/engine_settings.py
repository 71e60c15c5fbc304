"""What every engine's section of the configuration may have, whatever its type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import BaseModel, Field, SerializeAsAny

from atelier_engines.config import MAX_WAIT_SECONDS, Section

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")]
"""Name of an engine or a style."""


class BreakerSettings(Section):
    """Circuit breaker: after repeated failures an engine gets no tasks for a while."""

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "faults": "failure_threshold",
        "rest_seconds": "reset_timeout_seconds",
    }

    failure_threshold: int = Field(
        5, ge=1, le=10**6, description="Consecutive failures that open the circuit breaker."
    )
    reset_timeout_seconds: float = Field(
        30,
        ge=0,
        le=MAX_WAIT_SECONDS,
        description="Seconds until an open circuit breaker lets one task through to test the engine.",
    )


def list_currencies(config: BaseModel) -> set[str]:
    """The currencies of the prices in an engine's own settings."""
    stated = [getattr(config, name, None) for name in ("price", "token_prices")]
    prices = stated if any(stated) else [getattr(config, "list_prices", None)]
    return {price.currency for price in prices if price is not None}


class EngineSettings(Section):
    """One engine. All other keys of its section belong to the engine's type."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"cache_bytes": "result_cache_bytes"}

    type: str = Field(description="Type of the engine, as an installed package registers it.")
    fallbacks: tuple[Name, ...] = Field(
        (),
        description="Engines to use instead, in order, when this one fails and a retry cannot cause a second charge, "
        "or cannot take what was not begun: it is unavailable, its budget is exhausted, or it loads for long.",
    )
    max_loading_seconds: float = Field(
        60,
        ge=0,
        le=86400,
        description="Seconds of loading after which its fallbacks take over. Until then what waits for it stays, and "
        "new requests are refused with UNAVAILABLE, after which clients try again.",
    )
    timeout_seconds: float | None = Field(
        None,
        gt=0,
        le=MAX_WAIT_SECONDS,
        description="Maximum seconds that one task runs on the engine, after which it is stopped; null for no limit. "
        "Types of remote services have a key of this name themselves, with a default.",
    )
    replicas: tuple[str, ...] = Field(
        (),
        description="Addresses of equal instances of the service, instead of the key of the type that has one, such as "
        "base_url, address or endpoint. Each task runs on the one with the lowest load, of those that work; "
        "concurrency and other limits are those of each.",
    )
    queue_limit: int = Field(
        1000, ge=1, le=10**9, description="Maximum number of generations waiting for this engine."
    )
    daily_budget: float | None = Field(
        None,
        ge=0,
        description="Maximum to spend on this engine per day (from 00:00 UTC), in the currency of its price. Once "
        "what was made today and what runs costs so much, it begins nothing more, and refuses new requests when "
        "that has ended; what was accepted before waits for the next day, or goes to a fallback. The last task to "
        "begin may exceed it. Without a price nothing is counted but what a service says that it has charged.",
    )
    result_cache_bytes: int = Field(
        0,
        ge=0,
        le=2**40,
        description="Bytes of results to keep in memory and return for equal tasks; 0 disables the cache. "
        "Ignored, with a warning in the log, for engines whose results are not reproducible.",
    )
    share_result_cache: bool = Field(
        default=False,
        description="Whether tenants get each other's cached results. Then a result that comes at once tells a tenant "
        "that another has made the same before.",
    )
    required: bool = Field(
        default=False,
        description="Whether the server is ready (/readyz, health checks) only while this engine is. If no engine is "
        "required, the server is ready while any engine is that is not a placeholder, such as sketch; if there are "
        "only placeholders, any of them counts.",
    )
    breaker: BreakerSettings = Field(
        default_factory=BreakerSettings, description="Circuit breaker; see below."
    )
    config: SerializeAsAny[BaseModel] = Field(
        description="Settings of the engine's type.", exclude=True
    )
