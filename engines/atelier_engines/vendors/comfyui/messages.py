"""Parses the frames of a server's WebSocket; unknown and invalid frames are skipped.

Source: ComfyUI 0.33.0, server.py (`send_*`), protocol.py, comfy_execution/progress.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, Field, JsonValue, ValidationError

_PREVIEW = 1
_PREVIEW_WITH_METADATA = 4
_HEAD = struct.Struct(">II")
_END_EVENTS = frozenset({"execution_success", "execution_error", "execution_interrupted"})


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProgress:
    """Progress of one node: `value` of `maximum`."""

    prompt: str
    node: str
    value: float
    maximum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewImage:
    """A preview of the image that is being generated."""

    prompt: str
    """Id of the job; empty if the server does not send it."""
    data: bytes
    """Bytes of an image file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStarted:
    """A job is being executed."""

    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnded:
    """A job may have ended; its history entry decides whether and how."""

    prompt: str


Message = NodeProgress | PreviewImage | JobStarted | JobEnded


class _NodeState(BaseModel):
    value: float = 0.0
    max: float = 0.0
    state: str = ""


class _Data(BaseModel):
    prompt_id: str = ""
    node: str | None = None
    value: float = 0.0
    max: float = 0.0
    nodes: dict[str, _NodeState] | list[JsonValue] = Field(default_factory=dict)


class _Frame(BaseModel):
    type: str
    data: _Data = Field(default_factory=_Data)


class _Metadata(BaseModel):
    prompt_id: str = ""


def messages_from_frame(frame: str | bytes) -> Iterator[Message]:
    """Parse a frame; yields nothing for an irrelevant or invalid one."""
    try:
        if isinstance(frame, bytes):
            yield from _from_bytes(frame)
        else:
            yield from _from_text(_Frame.model_validate_json(frame))
    except (ValidationError, struct.error):
        return


def _from_text(frame: _Frame) -> Iterator[Message]:
    data = frame.data
    if frame.type == "progress" and data.node is not None:
        yield NodeProgress(
            prompt=data.prompt_id, node=data.node, value=data.value, maximum=data.max
        )
    elif frame.type == "progress_state" and isinstance(data.nodes, dict):
        for node, state in data.nodes.items():
            if state.state in {"running", "finished"}:
                yield NodeProgress(
                    prompt=data.prompt_id, node=node, value=state.value, maximum=state.max
                )
    elif frame.type in _END_EVENTS or (frame.type == "executing" and data.node is None):
        yield JobEnded(prompt=data.prompt_id)
    elif frame.type in {"execution_start", "executing"}:
        yield JobStarted(prompt=data.prompt_id)


def _from_bytes(frame: bytes) -> Iterator[Message]:
    kind, number = _HEAD.unpack_from(frame)
    body = frame[_HEAD.size :]
    if kind == _PREVIEW:
        yield PreviewImage(prompt="", data=body)
    elif kind == _PREVIEW_WITH_METADATA:
        metadata = _Metadata.model_validate_json(body[:number])
        yield PreviewImage(prompt=metadata.prompt_id, data=body[number:])
