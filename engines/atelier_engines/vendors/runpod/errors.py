"""Translates the errors of RunPod and of worker-comfyui."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUnavailableError,
    InvalidTaskError,
    JobStoppedError,
    ModelMissingError,
    OutOfMemoryError,
)
from atelier_engines.vendors.responses import Response

_MAX_MESSAGE_LENGTH = 300
_NOT_FOUND = 404
_WORKER_ERRORS: tuple[tuple[tuple[str, ...], type[EngineError], str], ...] = (
    (("outofmemory", "out of memory"), OutOfMemoryError, "request a smaller image"),
    (
        ("not in list", "available checkpoints"),
        ModelMissingError,
        "install that file on the endpoint",
    ),
    (
        ("validation", "missing 'workflow'", "invalid json", "please provide", "must be a list"),
        InvalidTaskError,
        "the endpoint cannot run this workflow",
    ),
    (
        ("not reachable", "websocket communication", "http communication"),
        EngineUnavailableError,
        "try again",
    ),
)
"""Texts in a worker's message, in lower case, with the error and the hint; the first match counts."""


def translate_failure(status: str, error: JsonValue, output: JsonValue) -> EngineError:
    """The error for a job that ended with a status other than COMPLETED."""
    message = "; ".join(part for part in (*_error_texts(error), *_details(output)) if part)
    match status:
        case "CANCELLED":
            return JobStoppedError("the job was cancelled at runpod")
        case "TIMED_OUT":
            return EngineTimeoutError(
                f"the job exceeded its time limit at runpod{_in_brackets(message)}"
            )
        case _:
            return translate_worker_message(message)


def translate_worker_message(message: str) -> EngineError:
    """The error for a worker's message."""
    lower = message.lower()
    for words, error_type, hint in _WORKER_ERRORS:
        if any(word in lower for word in words):
            text = f"runpod's worker failed{_in_brackets(message)}: {hint}"
            return (
                InvalidTaskError("options", text)
                if error_type is InvalidTaskError
                else _make(error_type, text)
            )
    return EngineFailedError(f"runpod's worker failed{_in_brackets(message)}; try again")


def translate_error(response: Response) -> EngineError | None:
    """The error for a response of status 400 to 499; None where its HTTP status says enough."""
    if response.status == _NOT_FOUND:
        return EngineFailedError(
            "the job is lost: runpod does not know it any more, or does not know the endpoint"
        )
    return None


def _make(error_type: type[EngineError], text: str) -> EngineError:
    return error_type(text)


def _error_texts(error: JsonValue) -> Iterator[str]:
    """Type and message; an exception comes as JSON in a text, with a traceback that is left out."""
    if isinstance(error, str):
        try:
            error = json.loads(error)
        except ValueError:
            yield str(error)
            return
    if isinstance(error, Mapping):
        yield " ".join(str(error.get(key, "")) for key in ("error_type", "error_message")).strip()
    elif error is not None:
        yield str(error)


def _details(output: JsonValue) -> Iterator[str]:
    details = output.get("details") if isinstance(output, Mapping) else None
    if isinstance(details, list):
        yield from map(str, details)
    elif details:
        yield str(details)


def _in_brackets(text: str) -> str:
    line = " ".join(text.split())
    return f" ({line[:_MAX_MESSAGE_LENGTH]})" if line else ""
