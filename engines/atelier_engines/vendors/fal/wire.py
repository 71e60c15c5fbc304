"""What fal sends: only the fields that are used."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field

from atelier_engines.errors import EngineFailedError


class Accepted(BaseModel):
    """The answer to a submitted job; also how it is found again after a restart."""

    model_config = ConfigDict(frozen=True)

    request_id: str = Field(min_length=1)
    """Name of the job."""
    status_url: str = Field(min_length=1)
    """Where to ask how it stands."""
    response_url: str = Field(min_length=1)
    """Where its result will be."""
    cancel_url: str = Field(min_length=1)
    """Where to cancel it."""


class Jobs(BaseModel):
    """All jobs of one task that were accepted, in the order of its seeds: the handle."""

    model_config = ConfigDict(frozen=True)

    jobs: tuple[Accepted, ...] = ()
    """One a picture."""

    def handle(self) -> str:
        """As text."""
        return self.model_dump_json()


class LogLine(BaseModel):
    """A line that the model wrote."""

    message: str = ""


class State(BaseModel):
    """How a job stands."""

    status: str
    """IN_QUEUE, IN_PROGRESS or COMPLETED, which failed and cancelled jobs are too."""
    queue_position: int | None = None
    """Jobs before it; absent once it runs."""
    logs: tuple[LogLine, ...] | None = None
    """All lines so far."""
    error: str | None = None
    """Why it failed."""
    error_type: str | None = None
    """The same in one word."""

    @property
    def completed(self) -> bool:
        """Whether it has come to an end of whatever kind."""
        return self.status == "COMPLETED"


class Anything(BaseModel):
    """An answer that matters by its status alone."""


class File(BaseModel):
    """A picture made."""

    url: str = Field(min_length=1)
    """Where it is, or all of it as a data URI."""


class NodeFiles(BaseModel):
    """What one node of a ComfyUI workflow made."""

    images: tuple[File, ...] = ()


class Result(BaseModel):
    """What a job made, in whichever of the shapes that models and workflows have."""

    images: tuple[File, ...] | None = None
    image: File | None = None
    outputs: dict[str, NodeFiles] | None = None
    has_nsfw_concepts: tuple[bool, ...] | None = None
    """Whether each picture was flagged, and so is black."""

    @property
    def file(self) -> File:
        """The picture.

        Raises:
            EngineFailedError: there is none.
        """
        for file in self._files():
            return file
        raise EngineFailedError("fal finished the job without a picture")

    @property
    def flagged(self) -> bool:
        """Whether the picture was flagged."""
        return any(self.has_nsfw_concepts or ())

    def _files(self) -> Iterator[File]:
        yield from self.images or ()
        if self.image is not None:
            yield self.image
        for node in (self.outputs or {}).values():
            yield from node.images


class Leave(BaseModel):
    """Leave to store pictures for a while."""

    token: str = Field(min_length=1)
    """Secret."""
    token_type: str = "Bearer"  # noqa: S105 (a name)
    """What stands before it."""


class Stored(BaseModel):
    """A stored picture."""

    access_url: str = Field(min_length=1)
    """Where it is."""


def jobs_from_handle(handle: str) -> Jobs:
    """The jobs that an earlier attempt had accepted.

    Raises:
        EngineFailedError: the handle is none of this engine's.
    """
    try:
        return Jobs.model_validate_json(handle or "{}")
    except ValueError as error:
        raise EngineFailedError("the jobs of an earlier attempt are lost: bad handle") from error
