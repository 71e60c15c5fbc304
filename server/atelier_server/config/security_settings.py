"""The sections of the configuration that say who may call, and how calls are encrypted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self, cast, get_args

from pydantic import Field, StringConstraints, field_validator, model_validator

from atelier_engines.addresses import Url
from atelier_engines.config import Section

Scope = Literal["generate", "read", "cancel", "admin"]
"""What a caller may do: start work; see it and its results; stop it; act on the queues of engines."""
SCOPES: frozenset[Scope] = frozenset(get_args(Scope))


def as_scope(name: str) -> Scope:
    """The scope of that name.

    Raises:
        ValueError: there is none.
    """
    for scope in get_args(Scope):
        if scope == name:
            return cast("Scope", scope)
    msg = f"no scope {name!r}; there are {', '.join(get_args(Scope))}"
    raise ValueError(msg)


TENANT_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
Tenant = Annotated[str, StringConstraints(pattern=f"^{TENANT_PATTERN}$")]
"""Name of a tenant."""
Origin = Annotated[
    str, StringConstraints(pattern=r"^(\*|https?://[A-Za-z0-9.\[\]:-]+)$", max_length=253 + 16)
]
"""Scheme, host and port of web pages, as browsers write them (RFC 6454), or `*` for those of all."""
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""Algorithms of signatures with public keys (RFC 7518, RFC 8037); with a shared secret, whoever verifies could sign."""


class TlsSettings(Section):
    """TLS of `listen` and `http`. The files are read again when they change; those that are wrong change nothing."""

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
        if value is False:  # what YAML makes of the word off
            return "off"
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


class KeySettings(Section):
    """API keys: `authorization: Bearer ID.SECRET`."""

    file: Path = Field(
        description="JSON file that `atelier keys` writes; it has hashes of the secrets. Read again when it changes."
    )


class JwtSettings(Section):
    """Tokens of an identity provider: `authorization: Bearer JWT`. They need the claims exp, iss, aud and sub.

    The claim `scope` lists what they may do.
    """

    issuer: str = Field(min_length=1, description="What the claim iss must be.")
    audience: str = Field(min_length=1, description="What the claim aud must be or contain.")
    jwks_url: Url | None = Field(
        None,
        description="https address of the provider's public keys (JWKS). They are kept 5 min; a token of an unknown "
        "key has them asked for anew, at most every 10 s.",
    )
    jwks_file: Path | None = Field(
        None, description="File of the public keys instead, read again when it changes."
    )
    algorithms: tuple[Algorithm, ...] = Field(
        ("RS256", "ES256", "EdDSA"), min_length=1, description="Signatures that are accepted."
    )
    tenant_claim: str = Field(
        "tenant",
        min_length=1,
        description="Claim that names the tenant, as letters, digits, . _ and -.",
    )

    @model_validator(mode="after")
    def _require_one_source(self) -> Self:
        if (self.jwks_url is None) == (self.jwks_file is None):
            raise ValueError("needs one of jwks_url and jwks_file")
        if self.jwks_url is not None and not self.jwks_url.lower().startswith("https://"):
            raise ValueError(
                "jwks_url must begin with https://: whoever changes the keys can be anybody"
            )
        return self


class CertificateSettings(Section):
    """The caller that has a client certificate."""

    tenant: Tenant = Field(description="Whom it belongs to.")
    scopes: tuple[Scope, ...] = Field(min_length=1, description="What it may do.")


class AuthSettings(Section):
    """Who may call. Each caller has a tenant, which sees only its own work, and scopes.

    generate starts work and uploads; read sees generations, events and artifacts; cancel stops generations; admin
    pauses engines and clears their queues, for all tenants.
    """

    keys: KeySettings | None = Field(None, description="API keys; see below.")
    jwt: JwtSettings | None = Field(None, description="Tokens of an identity provider; see below.")
    certificates: dict[str, CertificateSettings] = Field(
        default_factory=dict,
        description="Callers by a name in the subjectAltName of their client certificates: a DNS name, an address or a "
        "URI such as spiffe://… Needs tls.client_certificates: required.",
    )

    @model_validator(mode="after")
    def _require_some_way(self) -> Self:
        if self.keys is None and self.jwt is None and not self.certificates:
            raise ValueError("needs keys, jwt or certificates: nobody could call")
        return self


class TenantSettings(Section):
    """What one tenant may use."""

    weight: float = Field(
        1.0,
        gt=0,
        le=10**6,
        description="Its share of an engine that several tenants wait for: one with weight 2 is given twice the work "
        "of one with 1, in cost units (million pixels x steps x images, or seconds of audio x steps x "
        "candidates). Of work that is accepted from then on.",
    )
    requests_per_second: float | None = Field(
        None,
        gt=0,
        le=10**6,
        description="Calls in a second, all but CancelGeneration and health checks; those of a second may come at "
        "once. Null: no limit.",
    )
    max_unfinished: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="Generations that wait or run at a time, over all engines. Null: no limit.",
    )
    max_running: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="Generations that run at a time, over all engines; more wait until one has stopped, and others' go "
        "before. Estimates of waits and places in a queue do not count that. Null: no limit.",
    )
    max_queued: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="Generations that wait at a time, over all engines. Null: no limit.",
    )
    max_queued_cost: float | None = Field(
        None,
        gt=0,
        le=10**15,
        description="Cost units that wait at a time, over all engines. Null: no limit.",
    )
    daily_cost: float | None = Field(
        None,
        gt=0,
        le=10**15,
        description="Cost units a day (from 00:00 UTC): of what has begun, and of what waits. Null: no limit.",
    )
    daily_budget: float | None = Field(
        None,
        ge=0,
        le=10**12,
        description="Money a day (from 00:00 UTC), in the currency of the engines' prices, which must be one. Once "
        "what has ended today has cost so much, nothing more is accepted; what was accepted before still runs. "
        "Null: no limit.",
    )
    max_stored_bytes: int | None = Field(
        None,
        ge=1,
        le=2**60,
        description="Bytes of uploads and outputs that are kept. Once it has so many, uploads and generations are "
        "refused until some have expired; what was accepted before may exceed it. Null: no limit.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """What each tenant may use."""

    named: Mapping[str, TenantSettings] = field(default_factory=dict)
    """Of tenants that the configuration names."""
    default: TenantSettings = field(default_factory=TenantSettings)
    """Of all others."""

    @property
    def limit_calls(self) -> bool:
        """Whether the calls of any tenant are limited."""
        every = (self.default, *self.named.values())
        return any(one.requests_per_second is not None for one in every)

    def find_weight(self, tenant: str) -> float:
        """The tenant's share of an engine, beside those of others."""
        return self.find(tenant).weight

    @property
    def limit_running(self) -> bool:
        """Whether it is limited what any tenant has running."""
        every = (self.default, *self.named.values())
        return any(one.max_running is not None for one in every)

    def find_max_running(self, tenant: str) -> int | None:
        """How many generations of the tenant may run at a time; None for any number."""
        return self.find(tenant).max_running

    def find(self, tenant: str) -> TenantSettings:
        """What this tenant may use."""
        return self.named.get(tenant, self.default)
