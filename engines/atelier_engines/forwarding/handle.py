"""What finds a forwarded generation again after this process has died."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from atelier_engines.errors import EngineFailedError


class Handle(BaseModel):
    """Written before the task is sent, with the request id alone, and again once it is accepted.

    The server there makes one generation of one request id, however often it is sent, so that no
    death of this process between the two leaves work behind or has it done twice.
    """

    model_config = ConfigDict(frozen=True)

    request_id: str
    """Under which the task is, or was, sent."""
    generation_id: str = ""
    """Of the generation there; empty while it is not known to be accepted."""

    def text(self) -> str:
        """As it is stored."""
        return self.model_dump_json()


def handle_from_text(text: str) -> Handle:
    """The handle that `text` holds.

    Raises:
        EngineFailedError: it holds none: it was written by another engine.
    """
    try:
        return Handle.model_validate_json(text)
    except ValidationError as error:
        raise EngineFailedError(
            "what was noted of the work at the other server cannot be read: the work there is lost"
        ) from error
