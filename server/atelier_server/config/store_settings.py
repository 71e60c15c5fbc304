"""The section of the configuration that says where generations are stored, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, SecretStr, model_validator

from atelier_engines.config import MAX_KEEP_SECONDS, Section


class StoreSettings(Section):
    """How generations are stored, and for how long."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"time_to_live_seconds": "retention_seconds"}

    type: Literal["sqlite", "postgres"] = Field(
        "sqlite",
        description="sqlite: a file in `data_dir`, for one server. postgres: a PostgreSQL database, from version 14 "
        "on, which several servers may share, and for which the server is installed with its extra `postgres`.",
    )
    dsn: SecretStr | None = Field(
        None,
        description="For type postgres alone: address of the database, postgresql://USER:PASSWORD@HOST:PORT/NAME or "
        "as keywords, see libpq; the user may make tables in it.",
    )
    lease_seconds: float = Field(
        15,
        ge=1,
        le=3600,
        description="For type postgres alone: seconds after which the work of a server that has died, or cannot reach "
        "the database, is taken over.",
    )
    retention_seconds: float = Field(
        86400,
        gt=0,
        le=MAX_KEEP_SECONDS,
        description="Seconds until ended generations, their outputs, and uploads are deleted.",
    )
    min_free_bytes: int = Field(
        2**26,
        ge=0,
        le=2**50,
        description="Free bytes of the data directory's file system below which no new work is accepted; "
        "what was accepted before may use them.",
    )
    max_attempts: int = Field(
        3,
        ge=1,
        le=1000,
        description="Attempts of a generation that are lost to a crash of the server, the last one while nothing "
        "else ran, before it fails as POISONED.",
    )
    synchronous: Literal["NORMAL", "FULL"] = Field(
        "NORMAL",
        description="NORMAL survives a crash of the server; FULL also a power failure: every write of the database, "
        "and every artifact before the record that names it, waits until the disk has it. For type postgres this is "
        "about artifacts alone: the database has its own `synchronous_commit`.",
    )

    @model_validator(mode="after")
    def _check_database(self) -> Self:
        if self.type == "postgres" and self.dsn is None:
            msg = "type postgres needs a `dsn`, such as postgresql://atelier@localhost/atelier"
            raise ValueError(msg)
        given = self.model_fields_set & {"dsn", "lease_seconds"}
        if self.type == "sqlite" and given:
            msg = f"{', '.join(sorted(given))}: only for type postgres; set `type: postgres`, or leave them out"
            raise ValueError(msg)
        return self
