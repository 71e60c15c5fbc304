"""The handle of one task's jobs: what a later process needs to find them again."""

from __future__ import annotations

import uuid

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atelier_engines.errors import EngineFailedError


class JobHandle(BaseModel):
    """One job per image, all on one server, under ids that are chosen before anything is sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: str
    """URL of the server."""
    client_id: str
    """Client id whose socket gets the progress of the jobs."""
    prompts: tuple[str, ...] = Field(min_length=1)
    """Ids of the jobs, in the order of the task's seeds."""
    submitted: bool = True
    """Whether the server has accepted all jobs; otherwise it may know some of them."""

    @classmethod
    def choose(cls, server: str, count: int) -> JobHandle:
        """Ids for that many jobs that are to be submitted."""
        prompts = tuple(str(uuid.uuid4()) for _ in range(count))
        return cls(server=server, client_id=uuid.uuid4().hex, prompts=prompts, submitted=False)

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

    def as_submitted(self) -> JobHandle:
        """The handle once the server has accepted all jobs."""
        return self.model_copy(update={"submitted": True})
