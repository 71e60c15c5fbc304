"""Settings of the connection to another Atelier server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from atelier_engines.config import MAX_WAIT_SECONDS, Section
from atelier_engines.header_values import SecretToken


class ForwardingConfig(Section):
    """The engine to forward to, the connection to its server, and time limits."""

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "patience_seconds": "retry_timeout_seconds",
        "deadline_seconds": "timeout_seconds",
    }

    engine: str = Field(
        default="",
        max_length=64,
        description="Name of the engine on the other server; that server chooses when empty.",
    )
    tls: bool = Field(default=False, description="Whether the connection is encrypted.")
    ca_file: Path | None = Field(
        default=None,
        description="PEM file with the certificate authorities to trust; those of the system when null.",
    )
    server_name: str = Field(
        default="",
        max_length=253,
        description="Name that the certificate of the other server has, where that is not the one in its address.",
    )
    certificate_file: Path | None = Field(
        default=None,
        description="PEM file with a certificate of this server, where the other one wants one of its clients.",
    )
    key_file: Path | None = Field(
        default=None, description="PEM file with the private key of certificate_file."
    )
    token: SecretToken | None = Field(
        default=None,
        description="Bearer token sent with every call, for instance ${ATELIER_TOKEN}.",
    )
    retry_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        le=MAX_WAIT_SECONDS,
        description="How long to retry while the other server is unreachable and has accepted a task, "
        "counted from the first failure.",
    )
    timeout_seconds: float = Field(
        default=3600.0,
        gt=0,
        le=MAX_WAIT_SECONDS,
        description="Maximum time of a task on the other server, its time in the queue included.",
    )

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if self.ca_file is not None and not self.tls:
            raise ValueError("ca_file has no effect without tls: true")
        if self.server_name and not self.tls:
            raise ValueError("server_name has no effect without tls: true")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together")
        if self.certificate_file is not None and not self.tls:
            raise ValueError("certificate_file has no effect without tls: true")
        return self
