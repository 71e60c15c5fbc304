"""What Vast.ai answers, as far as it is used."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, Field


class Offer(BaseModel):
    """A machine that can be rented."""

    id: int
    machine_id: int = 0
    dph_total: float
    """US dollars an hour, disk included."""


class Offers(BaseModel):
    """Answer to a search; empty when there is no stock."""

    offers: list[Offer]


class Created(BaseModel):
    """Answer to a creation."""

    success: bool
    new_contract: int | None = None
    """Id of the instance."""
    error: str | None = None
    msg: str | None = None


class Port(BaseModel):
    """Where a port of the container can be reached."""

    host_port: str = Field(alias="HostPort")


class Instance(BaseModel):
    """A machine that is rented."""

    id: int
    machine_id: int | None = None
    label: str | None = None
    actual_status: str | None = None
    """None while it is scheduled; then loading, running, exited, offline and others."""
    status_msg: str | None = None
    public_ipaddr: str | None = None
    ports: Mapping[str, list[Port] | None] | None = None
    dph_total: float | None = None
    start_date: float | None = None
    """Seconds since 1970."""

    def address(self, port: int) -> str | None:
        """HOST:PORT of the container's port; None while it is not mapped."""
        mapped = (self.ports or {}).get(f"{port}/tcp") or []
        host = (self.public_ipaddr or "").strip()
        if not mapped or not host:
            return None
        return f"[{host}]:{mapped[0].host_port}" if ":" in host else f"{host}:{mapped[0].host_port}"


class Shown(BaseModel):
    """Answer about one instance; None when it is gone."""

    instances: Instance | None = None


class Listed(BaseModel):
    """One page of all instances."""

    instances: list[Instance]
    next_token: str | None = None


class Done(BaseModel):
    """Answer to a destruction."""

    success: bool = True
