"""Responses and events of an InvokeAI server, only the fields that are used; and the handle of a batch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, JsonValue, RootModel

from atelier_engines.errors import EngineFailedError


class ModelRecord(BaseModel):
    """A model on the server; graphs name it by this record."""

    model_config = ConfigDict(frozen=True)

    key: str
    """Id of the model."""
    hash: str = ""
    """Hash of the weights."""
    name: str
    """Display name."""
    base: str
    """Model family: sdxl, sd-1 …"""
    type: str
    """Kind of model: main, lora, controlnet …"""


class Models(BaseModel):
    """All models of a server, in its order."""

    models: tuple[ModelRecord, ...]


class PresetPrompts(BaseModel):
    """The prompts of a style preset."""

    positive_prompt: str = ""
    negative_prompt: str = ""


class StylePreset(BaseModel):
    """A style preset of the server."""

    name: str
    """Display name; not unique."""
    preset_data: PresetPrompts
    """Prompts, in which `{prompt}` stands for that of the task."""


StylePresets = RootModel[tuple[StylePreset, ...]]
"""The style presets that the account may use."""


class Token(BaseModel):
    """Response to signing in."""

    token: str = Field(min_length=1)
    """Token for every request and for the socket's handshake."""


class Processor(BaseModel):
    """The processor of the queue."""

    is_started: bool = True
    """False while the processor is paused."""


class QueueStatus(BaseModel):
    """State of the queue."""

    processor: Processor


class UploadedFile(BaseModel):
    """An image on the server."""

    image_name: str = Field(min_length=1)
    """Id of the image."""


class Board(BaseModel):
    """A collection of images."""

    board_id: str
    """Id of the board."""
    board_name: str = ""
    """Display name; not unique."""


Boards = RootModel[tuple[Board, ...]]
"""All boards of a server."""


class EnqueueResponse(BaseModel):
    """Response to enqueueing a batch."""

    enqueued: int
    """Number of images that had room in the queue."""
    item_ids: tuple[int, ...] = ()
    """Ids of the items, one per image, in no fixed order; items run in ascending order of their ids."""


class Session(BaseModel):
    """State of a graph's execution."""

    results: dict[str, JsonValue] = Field(default_factory=dict)
    """Outputs of the nodes, by the id of each execution."""
    prepared_source_mapping: dict[str, str] = Field(default_factory=dict)
    """Ids of executions, mapped to the ids of nodes in the graph as sent."""


class QueueItem(BaseModel):
    """One item of the queue, which generates one image."""

    item_id: int = 0
    """Id of the item."""
    status: str
    """Status: pending, in_progress, waiting, completed, failed or canceled."""
    error_type: str | None = None
    """Name of the exception's class."""
    error_message: str | None = None
    """Message of the exception."""
    started_at: str | None = None
    """When it was begun; None while it waits."""
    session: Session = Field(default_factory=Session)
    """State of the graph's execution."""

    def image_made_by(self, node: str) -> str | None:
        """Name of the image that a node of the graph generated; None if there is none."""
        for prepared, source in self.session.prepared_source_mapping.items():
            result = self.session.results.get(prepared)
            image = result.get("image") if isinstance(result, dict) else None
            name = image.get("image_name") if isinstance(image, dict) else None
            if source == node and isinstance(name, str):
                return name
        return None


QueueItems = RootModel[tuple[QueueItem, ...]]
"""Items of the queue, in the order in which they run."""


class ProgressImage(BaseModel):
    """A preview of the image that is being generated."""

    data_url: str = Field(alias="dataURL")
    """Data URL with a JPEG file in base64."""


class SocketEvent(BaseModel):
    """A socket event about one item."""

    item_id: int
    """Id of the item."""
    batch_id: str
    """Id of the item's batch."""
    invocation_source_id: str = ""
    """Node of the graph; empty in events about the item as a whole."""
    percentage: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    """Progress of the node, from 0 to 1."""
    image: ProgressImage | None = None
    """Preview; only in some events of the denoising node."""


class Ack(BaseModel):
    """A response of which only the status matters."""


class BatchHandle(BaseModel):
    """Handle of one task's batch: what a later process needs to find it again."""

    model_config = ConfigDict(frozen=True)

    batch_id: str = Field(min_length=1)
    """Id of the batch, unique to the task."""
    item_ids: tuple[int, ...] = ()
    """Ids of the items, one per image, in the order of the seeds; none until the server has accepted the batch."""
    uploads: tuple[str, ...] = ()
    """Names of the uploaded input images."""

    @classmethod
    def parse(cls, text: str) -> BatchHandle:
        """Parse a stored handle.

        Raises:
            EngineFailedError: it is not a handle of this engine.
        """
        try:
            return cls.model_validate_json(text)
        except ValueError as error:
            raise EngineFailedError(
                "invokeai: the batch is lost: its handle cannot be parsed"
            ) from error

    @property
    def text(self) -> str:
        """The handle as text, to be stored."""
        return self.model_dump_json()
