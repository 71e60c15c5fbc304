"""The handle of one task's jobs: what a later process needs to find them again."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atelier_engines.errors import EngineFailedError


class JobHandle(BaseModel):
    """One job per image, all on one server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: str
    """URL of the server."""
    client_id: str
    """Client id whose socket gets the progress of the jobs."""
    prompts: tuple[str, ...] = Field(min_length=1)
    """Ids of the jobs, in the order of the task's seeds."""

    @classmethod
    def parse(cls, text: str) -> JobHandle:
        """Parse a stored handle.

        Raises:
            EngineFailedError: it is not a handle of this engine.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise EngineFailedError(
                "comfyui: the job is lost: its handle cannot be parsed"
            ) from error

    @property
    def text(self) -> str:
        """The handle as text, to be stored."""
        return self.model_dump_json()
