"""What an InvokeAI server sends: only the fields that are used."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, JsonValue, RootModel

from atelier_engines.errors import EngineFailedError


class ModelRecord(BaseModel):
    """A model on the server; also how a graph names it."""

    model_config = ConfigDict(frozen=True)

    key: str
    """Its id."""
    hash: str = ""
    """Over its weights."""
    name: str
    """Name for people."""
    base: str
    """What it belongs to: sdxl, sd-1 …"""
    type: str
    """What it is: main, lora, controlnet …"""


class Models(BaseModel):
    """All models of a server."""

    models: tuple[ModelRecord, ...]
    """In its own order."""


class Token(BaseModel):
    """The answer to signing in."""

    token: str = Field(min_length=1)
    """Goes into every request and into the socket's handshake."""


class Processor(BaseModel):
    """What works through the queue."""

    is_started: bool = True
    """False while somebody has paused it."""


class QueueStatus(BaseModel):
    """The state of the queue."""

    processor: Processor
    """What works through it."""


class Image(BaseModel):
    """A picture on the server."""

    image_name: str = Field(min_length=1)
    """Its id."""


class Board(BaseModel):
    """A collection of pictures."""

    board_id: str
    """Its id."""
    board_name: str = ""
    """Name for people; not unique."""


Boards = RootModel[tuple[Board, ...]]
"""All boards of a server."""


class Enqueued(BaseModel):
    """The answer to a batch."""

    enqueued: int
    """How many pictures found room in the queue."""
    item_ids: tuple[int, ...] = ()
    """One a picture, in no order that can be relied on; the order of drawing is by number."""


class Session(BaseModel):
    """How far a graph has been worked through."""

    results: dict[str, JsonValue] = Field(default_factory=dict)
    """What the nodes made, by the id under which each was run."""
    prepared_source_mapping: dict[str, str] = Field(default_factory=dict)
    """From those ids to the ids in the graph as sent."""


class Item(BaseModel):
    """One picture in the queue."""

    status: str
    """pending, in_progress, waiting, completed, failed or canceled."""
    error_type: str | None = None
    """Name of the exception's class."""
    error_message: str | None = None
    """Its text."""
    session: Session = Field(default_factory=Session)
    """What has been made."""

    def image_made_by(self, node: str) -> str | None:
        """Name of the picture that a node of the graph made."""
        for prepared, source in self.session.prepared_source_mapping.items():
            result = self.session.results.get(prepared)
            image = result.get("image") if isinstance(result, dict) else None
            name = image.get("image_name") if isinstance(image, dict) else None
            if source == node and isinstance(name, str):
                return name
        return None


class ProgressImage(BaseModel):
    """A picture of the work so far."""

    data_url: str = Field(alias="dataURL")
    """With a JPEG file in base64."""


class Heard(BaseModel):
    """An event of the socket that is about one item."""

    item_id: int
    """Which one."""
    batch_id: str
    """The batch that it belongs to."""
    invocation_source_id: str = ""
    """Node of the graph; empty in events about the item as a whole."""
    percentage: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    """How much of the node is done."""
    image: ProgressImage | None = None
    """Only in some events of the denoising node."""


class Done(BaseModel):
    """An answer of which only the success matters."""


class Job(BaseModel):
    """All that belongs to one task on the server: the handle."""

    model_config = ConfigDict(frozen=True)

    batch_id: str = Field(min_length=1)
    """Ours alone."""
    item_ids: tuple[int, ...] = ()
    """One a picture, in the order of the seeds."""
    uploads: tuple[str, ...] = ()
    """Pictures that were sent along."""

    def handle(self) -> str:
        """As text."""
        return self.model_dump_json()


def job_from_handle(handle: str) -> Job:
    """The job that an earlier attempt had enqueued.

    Raises:
        EngineFailedError: the handle is none of this engine's.
    """
    try:
        return Job.model_validate_json(handle)
    except ValueError as error:
        raise EngineFailedError("the job of an earlier attempt is lost: bad handle") from error
