"""Responses of Vast.ai; only the fields that are used."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, Field


class Offer(BaseModel):
    """An offer of a machine."""

    id: int
    machine_id: int = 0
    dph_total: float
    """Price in US dollars per hour, disk included."""


class OfferList(BaseModel):
    """Response to a search."""

    offers: list[Offer]


class CreateResponse(BaseModel):
    """Response to the creation of an instance."""

    success: bool
    new_contract: int | None = None
    """Id of the new instance."""
    error: str | None = None
    msg: str | None = None


class Port(BaseModel):
    """Host port that a container port is mapped to."""

    host_port: str = Field(alias="HostPort")


class Instance(BaseModel):
    """A rented instance."""

    id: int
    machine_id: int | None = None
    label: str | None = None
    actual_status: str | None = None
    """Status: None while it is scheduled; then loading, running, exited, offline and others."""
    status_msg: str | None = None
    public_ipaddr: str | None = None
    ports: Mapping[str, list[Port] | None] | None = None
    dph_total: float | None = None
    start_date: float | None = None
    """Start of the rental in seconds since 1970."""

    def address(self, port: int) -> str | None:
        """Address (HOST:PORT) of a container port; None while it is not mapped."""
        mapped = (self.ports or {}).get(f"{port}/tcp") or []
        host = (self.public_ipaddr or "").strip()
        if not mapped or not host:
            return None
        return f"[{host}]:{mapped[0].host_port}" if ":" in host else f"{host}:{mapped[0].host_port}"


class InstanceResponse(BaseModel):
    """Response about one instance; its field is None if the instance does not exist."""

    instances: Instance | None = None


class InstancePage(BaseModel):
    """One page of all instances."""

    instances: list[Instance]
    next_token: str | None = None


class Ack(BaseModel):
    """Response to the destruction of an instance."""

    success: bool = True
