"""How to speak to another Atelier server."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator

from atelier_engines.config import Section


class ForwardingConfig(Section):
    """Which engine there is asked, how the connection is made, and how patient it is."""

    engine: str = Field(
        default="",
        max_length=64,
        description="Name of the engine there; the server there chooses when empty.",
    )
    tls: bool = Field(default=False, description="Whether the connection is encrypted.")
    ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authorities that may vouch for the server; those of the system "
        "when null.",
    )
    token: SecretStr | None = Field(
        default=None,
        description="Goes with every call as `authorization: Bearer`, for instance ${ATELIER_TOKEN}.",
    )
    patience_seconds: float = Field(
        default=30.0,
        gt=0,
        description="How long a server that stops answering is waited for while it has work of ours.",
    )
    deadline_seconds: float = Field(
        default=3600.0,
        gt=0,
        description="Longest that a task may take there, its time in the queue included.",
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.ca_file is not None and not self.tls:
            raise ValueError("ca_file has no effect without tls: true")
        return self
