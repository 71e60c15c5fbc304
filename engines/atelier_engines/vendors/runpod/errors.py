"""Why jobs of worker-comfyui fail, from what it says."""

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
    ModelMissingError,
    OutOfMemoryError,
)
from atelier_engines.vendors.responses import Response
from atelier_engines.vendors.runpod.wire import State

_LONGEST_TEXT = 300
_NOT_FOUND = 404
_KINDS: tuple[tuple[tuple[str, ...], type[EngineError], str], ...] = (
    (("outofmemory", "out of memory"), OutOfMemoryError, "ask for a smaller picture"),
    (
        ("not in list", "available checkpoints"),
        ModelMissingError,
        "put that file onto the endpoint",
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
"""What stands in a worker's text, in lower case, and what it means; the first that fits."""


def failure_of(state: State) -> EngineError:
    """The error that a final state other than COMPLETED means."""
    says = text_of(state)
    match state.status:
        case "CANCELLED":
            return EngineFailedError("the job was cancelled at runpod")
        case "TIMED_OUT":
            return EngineTimeoutError(
                f"runpod gave the job up: it ran for too long{_in_brackets(says)}"
            )
        case _:
            return failure_from_text(says)


def failure_from_text(says: str) -> EngineError:
    """The error that the worker's own words mean."""
    lower = says.lower()
    for words, kind, advice in _KINDS:
        if any(word in lower for word in words):
            text = f"runpod's worker failed{_in_brackets(says)}: {advice}"
            return (
                InvalidTaskError("options", text) if kind is InvalidTaskError else _made(kind, text)
            )
    return EngineFailedError(f"runpod's worker failed{_in_brackets(says)}; try again")


def text_of(state: State) -> str:
    """What was said about the failure, without the traceback."""
    return "; ".join(part for part in (*_texts(state.error), *_details(state.output)) if part)


def refusal_of(found: Response) -> EngineError | None:
    """The error that an answer of status 400 to 499 means; None where the table of statuses is right."""
    if found.status == _NOT_FOUND:
        return EngineFailedError(
            "the job is lost: runpod does not know it any more, or not the endpoint"
        )
    return None


def _made(kind: type[EngineError], text: str) -> EngineError:
    return kind(text)


def _texts(error: JsonValue) -> Iterator[str]:
    """An exception comes as JSON in a text, with a traceback that is nobody's business."""
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
    return f" ({line[:_LONGEST_TEXT]})" if line else ""
