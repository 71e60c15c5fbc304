"""The handle of a job together with the instance that has it: only there can it be found again."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from atelier_engines.errors import EngineUncertainError


class ReplicaHandle(BaseModel):
    """A job of one instance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replica: str
    """Address of the instance."""
    job: str
    """Handle of the job there."""

    @classmethod
    def parse(cls, handle: str) -> Self:
        """Read a stored handle.

        Raises:
            EngineUncertainError: it was stored before the engine had several instances.
        """
        try:
            return cls.model_validate_json(handle)
        except ValidationError as error:
            msg = "the job was ordered before the engine had `replicas`, and cannot be found among them"
            raise EngineUncertainError(msg) from error
