"""Responses of a ComfyUI server; only the fields that are used."""

from __future__ import annotations

from pydantic import BaseModel, Field, JsonValue, RootModel, ValidationError


class FileRef(BaseModel):
    """A file on the server, as uploads return it and history entries list it."""

    name: str = ""
    filename: str = ""
    subfolder: str = ""
    type: str = ""

    @property
    def path(self) -> str:
        """Path of the file as an image loading node takes it."""
        name = self.name or self.filename
        return f"{self.subfolder}/{name}" if self.subfolder else name


class PromptAccepted(BaseModel):
    """Response to POST /prompt. Some outputs may be rejected although others run."""

    prompt_id: str = Field(min_length=1)
    node_errors: JsonValue = None


class ExecInfo(BaseModel):
    """Length of the queue."""

    queue_remaining: int


class QueueInfo(BaseModel):
    """Response to GET /prompt."""

    exec_info: ExecInfo


class JobOutcome(BaseModel):
    """Outcome of a job."""

    status_str: str = ""
    completed: bool = False
    messages: list[JsonValue] = Field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        """Whether it has made what it was to make."""
        return self.status_str == "success"


class NodeOutput(BaseModel):
    """Output of one node."""

    images: list[FileRef] = Field(default_factory=list)


class HistoryEntry(BaseModel):
    """History entry of a job that has ended."""

    outputs: dict[str, JsonValue] = Field(default_factory=dict)
    status: JobOutcome = Field(default_factory=JobOutcome)

    def files(self, node: str) -> list[FileRef]:
        """Files that a node has saved; temporary files and outputs of another shape are left out."""
        try:
            output = NodeOutput.model_validate(self.outputs.get(node) or {})
        except ValidationError:
            return []
        return [file for file in output.images if file.type == "output"]


class History(RootModel[dict[str, HistoryEntry]]):
    """Response to GET /history/{id}: empty until the job has ended."""


class QueueState(BaseModel):
    """Response to GET /queue; a job is a list of its number, its id and more."""

    queue_running: list[list[JsonValue]] = Field(default_factory=list)
    queue_pending: list[list[JsonValue]] = Field(default_factory=list)

    def runs(self, prompt: str) -> bool:
        """Whether the job runs."""
        return any(prompt in job[1:2] for job in self.queue_running)

    def position(self, prompt: str) -> int | None:
        """Number of jobs ahead, 0 while the job runs; None if it is not in the queue."""
        if self.runs(prompt):
            return 0
        ids = [job[1] for job in sorted(self.queue_pending, key=_number) if job[1:]]
        return ids.index(prompt) + len(self.queue_running) if prompt in ids else None


def _number(job: list[JsonValue]) -> float:
    return float(job[0]) if job and isinstance(job[0], int | float) else 0.0


class System(BaseModel):
    """FormPart of the response to GET /system_stats."""

    comfyui_version: str = ""


class SystemStats(BaseModel):
    """Response to GET /system_stats."""

    system: System
