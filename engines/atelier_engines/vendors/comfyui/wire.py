"""What a ComfyUI server answers: only the fields that are used."""

from __future__ import annotations

from pydantic import BaseModel, Field, JsonValue, RootModel, ValidationError


class File(BaseModel):
    """A file at the server, as uploads return it and results list it."""

    name: str = ""
    filename: str = ""
    subfolder: str = ""
    type: str = ""

    @property
    def path(self) -> str:
        """How a node for pictures names it."""
        name = self.name or self.filename
        return f"{self.subfolder}/{name}" if self.subfolder else name


class Accepted(BaseModel):
    """Answer to POST /prompt. Some outputs may have been refused although others run."""

    prompt_id: str = Field(min_length=1)
    node_errors: JsonValue = None


class ExecInfo(BaseModel):
    """How much there is to do."""

    queue_remaining: int


class Load(BaseModel):
    """Answer to GET /prompt."""

    exec_info: ExecInfo


class Status(BaseModel):
    """How a job ended."""

    status_str: str = ""
    completed: bool = False
    messages: list[JsonValue] = Field(default_factory=list)


class NodeOutput(BaseModel):
    """What one node made."""

    images: list[File] = Field(default_factory=list)


class Record(BaseModel):
    """A job that has ended."""

    outputs: dict[str, JsonValue] = Field(default_factory=dict)
    status: Status = Field(default_factory=Status)

    def files(self, node: str) -> list[File]:
        """What a node has saved for good; previews and what is of another shape are left out."""
        try:
            output = NodeOutput.model_validate(self.outputs.get(node) or {})
        except ValidationError:
            return []
        return [file for file in output.images if file.type == "output"]


class History(RootModel[dict[str, Record]]):
    """Answer to GET /history/{id}: empty until the job has ended."""


class Queue(BaseModel):
    """Answer to GET /queue; a job is a list of its number, its id and more."""

    queue_running: list[list[JsonValue]] = Field(default_factory=list)
    queue_pending: list[list[JsonValue]] = Field(default_factory=list)

    def position(self, prompt: str) -> int | None:
        """Jobs before that one, 0 while it runs; None when it is not there."""
        if any(prompt in job[1:2] for job in self.queue_running):
            return 0
        ids = [job[1] for job in sorted(self.queue_pending, key=_number) if job[1:]]
        return ids.index(prompt) + len(self.queue_running) if prompt in ids else None


def _number(job: list[JsonValue]) -> float:
    return float(job[0]) if job and isinstance(job[0], int | float) else 0.0


class System(BaseModel):
    """Part of the answer to GET /system_stats."""

    comfyui_version: str = ""


class SystemStats(BaseModel):
    """Answer to GET /system_stats."""

    system: System


class NodeInputs(BaseModel):
    """Inputs that a node class takes."""

    required: dict[str, JsonValue] = Field(default_factory=dict)
    optional: dict[str, JsonValue] = Field(default_factory=dict)


class NodeClass(BaseModel):
    """What a server says about one class of nodes."""

    input: NodeInputs = Field(default_factory=NodeInputs)

    def choices(self, name: str) -> tuple[str, ...]:
        """What the input of that name can be chosen from; empty when it is no choice.

        Older servers send the list itself, newer ones `COMBO` and the list among its settings.
        """
        match self.input.required.get(name, self.input.optional.get(name)):
            case [list(names), *_] | ["COMBO", {"options": list(names)}, *_]:
                return tuple(choice for choice in names if isinstance(choice, str))
            case _:
                return ()


class ObjectInfo(RootModel[dict[str, NodeClass]]):
    """Answer to GET /object_info: every class of nodes."""
