"""The handle by which a forwarded generation is found after this process has restarted."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from atelier_engines.errors import EngineFailedError


class Handle(BaseModel):
    """Stored with the request id before the task is sent, and with the generation id once it is accepted.

    The other server runs a request id once, however often it is sent. So a crash of this process
    between the two neither loses the generation nor starts a second one.
    """

    model_config = ConfigDict(frozen=True)

    request_id: str
    """Request id under which the task is sent."""
    generation_id: str = ""
    """Id of the generation on the other server; empty until the task is known to be accepted."""
    cancelled: bool = False
    """Whether the other server was told to cancel it: sent again under the request id, it runs again there."""

    def serialize(self) -> str:
        """The text to store."""
        return self.model_dump_json()


def parse_handle(text: str) -> Handle:
    """Parse a stored handle.

    Raises:
        EngineFailedError: the text is not a handle; another engine wrote it.
    """
    try:
        return Handle.model_validate_json(text)
    except ValidationError as error:
        raise EngineFailedError(
            "the stored handle of the generation on the other server is invalid: the generation is lost"
        ) from error
