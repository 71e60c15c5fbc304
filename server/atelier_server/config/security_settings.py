"""The sections of the configuration that say who may call, and how calls are encrypted."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from atelier_engines.config import Section


class TlsSettings(Section):
    """TLS of the gRPC address. The files are read again when they change; those that are wrong change nothing."""

    certificate: Path = Field(
        description="PEM file of the server's certificate, followed by those between it and its authority."
    )
    key: Path = Field(description="PEM file of the certificate's private key, without a password.")
    client_ca: Path | None = Field(
        None, description="PEM file of the authorities whose client certificates are accepted."
    )
    client_certificates: Literal["off", "required"] = Field(
        "off",
        description="off: clients show no certificate. required: no connection without a certificate of `client_ca`. "
        "gRPC's Python library can't ask for one without requiring it.",
    )

    @field_validator("client_certificates", mode="before")
    @classmethod
    def _explain_optional(cls, value: object) -> object:
        if value == "optional":
            raise ValueError(
                "can't be optional: gRPC's Python library asks for a certificate only where it requires one; use "
                "required, or off with auth.keys or auth.jwt"
            )
        return value

    @model_validator(mode="after")
    def _require_authority(self) -> Self:
        if self.client_certificates == "required" and self.client_ca is None:
            raise ValueError("client_certificates: required needs client_ca")
        return self
