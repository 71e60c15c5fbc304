"""The handle of one task's jobs: what a later process needs to find them again."""

from __future__ import annotations

import uuid
from collections.abc import Collection

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
    told: frozenset[str] = frozenset()
    """Ids of jobs that the server was told to stop, and that may go on all the same."""
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

    def keeping(self, prompts: Collection[str], *, told: Collection[str]) -> JobHandle:
        """The handle with new ids for all jobs but these; those that were `told` to stop may go on."""
        ids = tuple(one if one in prompts else str(uuid.uuid4()) for one in self.prompts)
        update = {"prompts": ids, "told": frozenset(told), "submitted": False}
        return self.model_copy(update=update)

    def as_submitted(self) -> JobHandle:
        """The handle once the server has accepted all jobs."""
        return self.model_copy(update={"submitted": True})
