"""What Black Forest Labs sends: only the fields that are used."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from atelier_engines.errors import EngineFailedError


class Accepted(BaseModel):
    """The answer to a submitted job; also how it is found again after a restart."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(min_length=1)
    """Name of the job."""
    polling_url: str = ""
    """Where to ask for it; absent in some answers."""

    @property
    def place(self) -> str:
        """Where to ask for it."""
        return self.polling_url or f"/v1/get_result?id={self.id}"


class Jobs(BaseModel):
    """All jobs of one task that were accepted, in the order of its seeds: the handle."""

    model_config = ConfigDict(frozen=True)

    jobs: tuple[Accepted, ...] = ()
    """One a picture."""

    def handle(self) -> str:
        """As text."""
        return self.model_dump_json()


class Sample(BaseModel):
    """A finished picture."""

    sample: str = Field(min_length=1)
    """Signed link; works for ten minutes."""


class Found(BaseModel):
    """The state of a job."""

    status: str
    """Pending, Ready, Request Moderated …: an open set."""
    result: Sample | None = None
    """There once the status is Ready."""
    progress: float | None = None
    """0 to 1; mostly absent."""
    details: JsonValue = None
    """Why it was moderated or failed, in no fixed shape."""

    @property
    def reasons(self) -> str:
        """Why, in words; empty when not said."""
        details = self.details
        if isinstance(details, dict):
            details = details.get("Moderation Reasons") or details.get("error") or ""
        if isinstance(details, list):
            return ", ".join(str(reason) for reason in details)
        return "" if details is None else str(details)


class Credits(BaseModel):
    """What is left on the account."""

    credits: float
    """In the service's own currency."""


def jobs_from_handle(handle: str) -> Jobs:
    """The jobs that an earlier attempt had accepted.

    Raises:
        EngineFailedError: the handle is none of this engine's.
    """
    try:
        return Jobs.model_validate_json(handle or "{}")
    except ValueError as error:
        raise EngineFailedError("the jobs of an earlier attempt are lost: bad handle") from error
