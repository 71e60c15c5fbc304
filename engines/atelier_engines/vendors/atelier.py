"""atelier: the engines of another Atelier server."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from atelier_engines.engine import EngineType
from atelier_engines.forwarding.config import ForwardingConfig

if TYPE_CHECKING:
    from atelier_engines.forwarding.engine import ForwardingEngine


class AtelierConfig(ForwardingConfig):
    """An atelier engine's section in the configuration file."""

    address: str = Field(
        pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^:\s/]+):\d{1,5}$",
        description="HOST:PORT where the other server serves gRPC.",
    )
    concurrency: int = Field(
        default=4,
        ge=1,
        le=256,
        description="Most tasks to have there at once; no more are claimed than the engine there works on.",
    )

    @model_validator(mode="after")
    def _secret(self) -> Self:
        if self.token is not None and not self.tls and not _is_this_machine(self.address):
            raise ValueError("token would go over the network unencrypted: say tls: true")
        return self


def _is_this_machine(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _create(config: AtelierConfig) -> ForwardingEngine:
    from atelier_engines.forwarding.engine import ForwardingEngine  # noqa: PLC0415 (brings gRPC)

    return ForwardingEngine(config.address, config, concurrency=config.concurrency)


ENGINE: EngineType[AtelierConfig] = EngineType(config=AtelierConfig, create=_create)
"""What the package registers."""
