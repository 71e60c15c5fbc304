"""Translates rejections and failures of a ComfyUI server. Tracebacks and inputs are never passed on."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineUnavailableError,
    InvalidTaskError,
    JobStoppedError,
    ModelMissingError,
    OutOfMemoryError,
    TaskFailedError,
)
from atelier_engines.vendors.comfyui.filled_inputs import FilledInputs
from atelier_engines.vendors.comfyui.schemas import JobOutcome
from atelier_engines.vendors.responses import Response
from atelier_engines.vendors.server_paths import hide_paths

_BAD_REQUEST = 400
_MAX_MESSAGE_LENGTH = 300
_WEIGHTS_INPUTS = (
    "ckpt_name",
    "control_net_name",
    "lora_name",
    "unet_name",
    "vae_name",
    "clip_name",
)


_SELECTED_NODES = ("Lora", "ControlNet", "LoadImage")
"""Beginnings of the types of nodes that load or apply what the task selects."""


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


class _Rejection(BaseModel):
    """Response of status 400 to POST /prompt."""

    error: _Problem
    node_errors: dict[str, _NodeErrors] | list[JsonValue] = Field(default_factory=dict)


class _Failure(BaseModel):
    """RequestContent of `execution_error`, without its traceback and inputs."""

    model_config = ConfigDict(extra="ignore")

    node_type: str = ""
    exception_type: str = ""
    exception_message: str = ""


class RejectedError(EngineUnavailableError):
    """The server has rejected a workflow; nothing was begun. `blame` says whose fault it is."""

    def __init__(self, rejection: _Rejection) -> None:
        """Keep what the server says."""
        details = "; ".join(_describe_problems(rejection))[:_MAX_MESSAGE_LENGTH]
        super().__init__(f"comfyui rejected the workflow: {details}")
        self._rejection = rejection

    def blame(self, filled: FilledInputs) -> EngineError:
        """The error of the caller, for what the task has filled in, or else of the engine, whose workflow is faulty."""
        if self._rejection.error.type in {"missing_node_type", "invalid_prompt"}:
            return ModelMissingError(f"{self}; install the node on the server")
        problems = [*_problems(self._rejection)]
        if any(map(_is_missing_file, (problem for _, problem in problems))):
            return ModelMissingError(f"{self}; install the file on the server")
        fields = [filled.field_of(node, one.extra_info.input_name) for node, one in problems]
        if problems and (field := next(iter(fields))) and all(fields):
            return InvalidTaskError(field, f"{self}; change the task accordingly")
        return EngineUnavailableError(
            f"{self}; the engine's workflow is at fault, not the task: correct it, its bindings or its overrides"
        )


def translate_rejection(answer: Response) -> EngineError | None:
    """Translate a rejected prompt to RejectedError; None for every other response."""
    if answer.status != _BAD_REQUEST:
        return None
    try:
        return RejectedError(_Rejection.model_validate_json(answer.body))
    except ValidationError:
        return None


def translate_node_errors(node_errors: JsonValue) -> RejectedError | None:
    """Translate the errors of a prompt that was accepted in part; None if it was accepted whole."""
    if not node_errors:
        return None
    try:
        rejection = _Rejection(error=_Problem(message="rejected in part"), node_errors=node_errors)
    except ValidationError:
        rejection = _Rejection(error=_Problem(message="rejected in part"))
    return RejectedError(rejection)


def translate_failure(status: JobOutcome) -> EngineError:
    """Translate the outcome of a job that did not succeed."""
    for message in status.messages:
        match message:
            case ["execution_error", dict(details)]:
                failure = _Failure.model_validate(
                    {key: value for key, value in details.items() if isinstance(value, str)}
                )
                if (
                    failure.exception_type != "ExecutionBlocked"
                ):  # only says that a branch was skipped
                    return _error_from_failure(failure)
            case ["execution_interrupted", *_]:
                return JobStoppedError(
                    "comfyui: the job was interrupted at the server by someone else"
                )
            case _:
                pass
    return EngineFailedError("comfyui: the job failed; the server gives no reason")


def _is_missing_file(problem: _Problem) -> bool:
    return problem.type == "value_not_in_list" and problem.extra_info.input_name.startswith(
        _WEIGHTS_INPUTS
    )


def _describe_problems(rejection: _Rejection) -> Iterator[str]:
    nodes = rejection.node_errors if isinstance(rejection.node_errors, dict) else {}
    found = False
    for node_id, node in nodes.items():
        for problem in node.errors:
            found = True
            yield f"node {node_id} ({node.class_type}): {problem.message} {problem.details}".strip()
    if not found:
        yield f"{rejection.error.message} {rejection.error.details}".strip()


def _problems(rejection: _Rejection) -> Iterator[tuple[str, _Problem]]:
    nodes = rejection.node_errors if isinstance(rejection.node_errors, dict) else {}
    for node_id, node in nodes.items():
        for problem in node.errors:
            yield node_id, problem


def _error_from_failure(failure: _Failure) -> EngineError:
    if failure.exception_type.endswith("OutOfMemoryError") or (
        "Allocation on device" in failure.exception_message
    ):
        return OutOfMemoryError(
            f"comfyui ran out of memory in {failure.node_type}; request a smaller image"
        )
    message = hide_paths(" ".join(failure.exception_message.split()))[:_MAX_MESSAGE_LENGTH]
    text = f"comfyui failed in {failure.node_type or 'a node'}: {message}"
    if failure.exception_type == "FileNotFoundError" and message.startswith("Model in folder"):
        return ModelMissingError(f"{text}; install the file on the server")
    if failure.node_type.startswith(_SELECTED_NODES):
        return TaskFailedError(f"{text}; change what the task selects there")
    return EngineFailedError(text)
