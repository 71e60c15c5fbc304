"""What a server's refusals and failures mean to the caller. Tracebacks and inputs never go on."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    InvalidTaskError,
    ModelMissingError,
    OutOfMemoryError,
)
from atelier_engines.vendors.answers import Answer
from atelier_engines.vendors.comfyui.wire import Status

_BAD_REQUEST = 400
_LONGEST_TEXT = 300
_WEIGHTS = ("ckpt_name", "control_net_name", "lora_name", "unet_name", "vae_name", "clip_name")


class _Extra(BaseModel):
    input_name: str = ""


class _Problem(BaseModel):
    type: str = ""
    message: str = ""
    details: str = ""
    extra_info: _Extra = Field(default_factory=_Extra)


class _NodeErrors(BaseModel):
    errors: list[_Problem] = Field(default_factory=list)
    class_type: str = ""


class _Refusal(BaseModel):
    """Answer of status 400 to POST /prompt."""

    error: _Problem
    node_errors: dict[str, _NodeErrors] | list[JsonValue] = Field(default_factory=dict)


class _Failure(BaseModel):
    """What `execution_error` tells, but for its traceback and the inputs."""

    model_config = ConfigDict(extra="ignore")

    node_type: str = ""
    exception_type: str = ""
    exception_message: str = ""


def of_answer(answer: Answer) -> EngineError | None:
    """The error that a refused prompt means; None for every other answer."""
    if answer.status != _BAD_REQUEST:
        return None
    try:
        refusal = _Refusal.model_validate_json(answer.body)
    except ValidationError:
        return None
    return _of_refusal(refusal)


def of_node_errors(node_errors: JsonValue) -> EngineError | None:
    """The error that a prompt means which was accepted only in part; None when it was accepted whole."""
    if not node_errors:
        return None
    try:
        refusal = _Refusal(error=_Problem(message="refused in part"), node_errors=node_errors)
    except ValidationError:
        refusal = _Refusal(error=_Problem(message="refused in part"))
    return _of_refusal(refusal)


def of_status(status: Status) -> EngineError:
    """The error of a job that has ended without success."""
    for message in status.messages:
        match message:
            case ["execution_error", dict(told)]:
                failure = _Failure.model_validate(
                    {key: value for key, value in told.items() if isinstance(value, str)}
                )
                if failure.exception_type != "ExecutionBlocked":  # tells that a branch was left out
                    return _of_failure(failure)
            case ["execution_interrupted", *_]:
                return EngineFailedError(
                    "comfyui: the job was stopped at the server by someone else"
                )
            case _:
                pass
    return EngineFailedError("comfyui: the job failed, and the server does not say why")


def _of_refusal(refusal: _Refusal) -> EngineError:
    says = "; ".join(_sentences(refusal))[:_LONGEST_TEXT]
    message = f"comfyui refused the workflow: {says}"
    if refusal.error.type in {"missing_node_type", "invalid_prompt"}:
        return ModelMissingError(f"{message}; install the node at the server")
    if any(
        problem.type == "value_not_in_list" and problem.extra_info.input_name.startswith(_WEIGHTS)
        for problem in _problems(refusal)
    ):
        return ModelMissingError(f"{message}; install the file at the server")
    return InvalidTaskError("options", message)


def _sentences(refusal: _Refusal) -> Iterator[str]:
    nodes = refusal.node_errors if isinstance(refusal.node_errors, dict) else {}
    said = False
    for node_id, node in nodes.items():
        for problem in node.errors:
            said = True
            yield f"node {node_id} ({node.class_type}): {problem.message} {problem.details}".strip()
    if not said:
        yield f"{refusal.error.message} {refusal.error.details}".strip()


def _problems(refusal: _Refusal) -> Iterator[_Problem]:
    nodes = refusal.node_errors if isinstance(refusal.node_errors, dict) else {}
    for node in nodes.values():
        yield from node.errors


def _of_failure(failure: _Failure) -> EngineError:
    if failure.exception_type.endswith("OutOfMemoryError") or (
        "Allocation on device" in failure.exception_message
    ):
        return OutOfMemoryError(
            f"comfyui ran out of memory in {failure.node_type}; ask for a smaller picture"
        )
    says = " ".join(failure.exception_message.split())[:_LONGEST_TEXT]
    return EngineFailedError(f"comfyui failed in {failure.node_type or 'a node'}: {says}")
