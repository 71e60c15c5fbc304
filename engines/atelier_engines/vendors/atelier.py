"""The engine type `atelier`: forwards tasks to another Atelier server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from atelier_engines.addresses import Address, is_local
from atelier_engines.engine import EngineType
from atelier_engines.forwarding.config import ForwardingConfig

if TYPE_CHECKING:
    from atelier_engines.forwarding.engine import ForwardingEngine


class AtelierConfig(ForwardingConfig):
    """Settings of an engine of the type `atelier`."""

    address: Address = Field(
        description="Address of the other server's gRPC endpoint: HOST:PORT, [IPV6]:PORT or unix:PATH."
    )
    concurrency: int = Field(
        default=4,
        ge=1,
        le=256,
        description="Maximum tasks on the other server at once; at most what the engine there runs at once.",
    )

    @model_validator(mode="after")
    def _check_token(self) -> Self:
        if self.token is not None and not self.tls and not is_local(self.address):
            raise ValueError("token would be sent unencrypted over the network: set tls: true")
        return self


def _create(config: AtelierConfig) -> ForwardingEngine:
    from atelier_engines.forwarding.engine import ForwardingEngine  # noqa: PLC0415 (brings gRPC)

    return ForwardingEngine(config.address, config, concurrency=config.concurrency)


ENGINE: EngineType[AtelierConfig] = EngineType(
    config=AtelierConfig, create=_create, asks_on_start=True, address_key="address"
)
"""The engine type that the package registers."""
