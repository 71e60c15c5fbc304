"""The jobs that one task is at a server, and the handle that finds them again."""

from __future__ import annotations

from pydantic import Field, ValidationError

from atelier_engines.config import Section
from atelier_engines.errors import EngineFailedError


class Jobs(Section):
    """One job a picture, all at one server."""

    server: str
    """Its URL."""
    client_id: str
    """To whom the server tells their progress."""
    prompts: tuple[str, ...] = Field(min_length=1)
    """Their ids, in the order of the task's seeds."""

    @classmethod
    def from_handle(cls, handle: str) -> Jobs:
        """The jobs that `handle` finds.

        Raises:
            EngineFailedError: it is no handle of this engine.
        """
        try:
            return cls.model_validate_json(handle)
        except ValidationError as error:
            raise EngineFailedError(
                "comfyui: the job is lost: its handle cannot be read"
            ) from error

    @property
    def handle(self) -> str:
        """What finds them again."""
        return self.model_dump_json()
