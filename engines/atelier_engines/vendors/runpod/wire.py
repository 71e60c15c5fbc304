"""What RunPod and worker-comfyui send: only the fields that are used."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from atelier_engines.errors import EngineFailedError

WAITING = frozenset({"IN_QUEUE"})
"""States before a worker has the job."""
ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})
"""States that are final; every other, known or not, means that the job goes on."""


class Accepted(BaseModel):
    """The answer to a submitted job; also how it is found again after a restart."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(pattern=r"^[\w-]+$")
    """Name of the job."""


class Jobs(BaseModel):
    """All jobs of one task that were accepted, in the order of its seeds: the handle."""

    model_config = ConfigDict(frozen=True)

    jobs: tuple[Accepted, ...] = ()
    """One a picture."""

    def handle(self) -> str:
        """As text."""
        return self.model_dump_json()


class State(BaseModel):
    """How a job stands."""

    status: str
    """IN_QUEUE, IN_PROGRESS, RUNNING, or one that is final."""
    output: JsonValue = None
    """The result when COMPLETED; before that, whatever the worker tells of its progress."""
    error: JsonValue = None
    """Why it failed: text, or JSON in a text."""


class Workers(BaseModel):
    """How many workers of the endpoint are in which state."""

    idle: int = 0
    ready: int = 0
    running: int = 0
    initializing: int = 0
    throttled: int = 0
    unhealthy: int = 0

    @property
    def starting(self) -> bool:
        """Whether a worker comes up while none can take a job."""
        return self.initializing > 0 and not (self.idle or self.ready or self.running)

    def __str__(self) -> str:
        told = self.model_dump(exclude_defaults=True)
        return ", ".join(f"{count} {state}" for state, count in told.items()) or "no workers"


class Health(BaseModel):
    """How the endpoint is."""

    workers: Workers = Workers()


class Anything(BaseModel):
    """An answer that matters by its status alone."""


class Progress(BaseModel):
    """What a worker of one's own may tell by `progress_update`."""

    step: int
    total: int


class Image(BaseModel):
    """A picture of worker-comfyui 5 and later."""

    data: str = Field(min_length=1)
    """Base64, or an address."""
    type: str = "base64"
    """base64 or s3_url."""


class Output(BaseModel):
    """What worker-comfyui made, in either of its shapes."""

    images: tuple[Image, ...] = ()
    """Version 5 and later."""
    errors: tuple[str, ...] = ()
    """What went wrong beside the pictures."""
    message: str = ""
    """Before version 5: base64, an address, or why it failed."""
    status: str = ""
    """success, error, success_no_images."""

    @property
    def data(self) -> str:
        """The picture: base64 or an address. Empty when there is none."""
        if self.images:
            return self.images[0].data
        return self.message if self.status != "error" else ""


def jobs_from_handle(handle: str) -> Jobs:
    """The jobs that an earlier attempt had accepted.

    Raises:
        EngineFailedError: the handle is none of this engine's.
    """
    try:
        return Jobs.model_validate_json(handle or "{}")
    except ValueError as error:
        raise EngineFailedError("the jobs of an earlier attempt are lost: bad handle") from error
