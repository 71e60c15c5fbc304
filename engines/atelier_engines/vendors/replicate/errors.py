"""Translates Replicate's errors: problems of a request, and why a prediction failed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ValidationError

from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
    InvalidTaskError,
    ModelMissingError,
    OutOfMemoryError,
)
from atelier_engines.vendors.replicate.config import TaskField
from atelier_engines.vendors.responses import Response

_MAX_MESSAGE_LENGTH = 300
_NOT_FOUND = 404
_UNPROCESSABLE = 422
_INPUT = re.compile(r"\binput\.(\w+)")
_RESETS = re.compile(r"(?:resets in|available in) ~?(\d{1,5})")
_FILTERED = re.compile(
    r"\b(nsfw|sensitive|flagged|E005)\b|content policy|safety (?:check|filter)", re.IGNORECASE
)
_OUT_OF_MEMORY = re.compile(r"out of memory|OutOfMemory", re.IGNORECASE)
_INVALID_INPUT = re.compile(r"\bE006\b|invalid input", re.IGNORECASE)
_CONTRACT_FIELDS: Mapping[TaskField, str] = {
    TaskField.ASPECT_RATIO: "width",
    TaskField.OUTPUT_FORMAT: "options",
    TaskField.SAFETY_OFF: "safety_mode",
}
"""Fields of the contract where they have another name."""


class _Problem(BaseModel):
    """The body of an error response."""

    title: str = ""
    detail: str = ""
    retry_after: float | None = None


def translate_error(
    response: Response, *, secrets: Iterable[str], inputs: Mapping[str, TaskField]
) -> EngineError | None:
    """The error for a response of status 400 to 499; None where its HTTP status says enough.

    Args:
        response: the response.
        secrets: what no message repeats, the API token among it.
        inputs: what the inputs of the model take their values from, by their names.
    """
    if response.status == _NOT_FOUND:
        return EngineFailedError(
            "the prediction is lost: replicate does not know it any more, or does not know the model"
        )
    if response.status != _UNPROCESSABLE:
        return None
    text = response.error_message(secrets)[:_MAX_MESSAGE_LENGTH]
    if "version" in _read_problem(response).title.lower():
        return ModelMissingError(f"replicate does not run this version ({text}); change `model`")
    named = _INPUT.search(text)
    if named is None:
        return None
    field = inputs.get(named[1])
    name = f"options.{named[1]}" if field is None else _CONTRACT_FIELDS.get(field, field.value)
    return InvalidTaskError(
        name, f"replicate refused {named[1]}: {text}; change the task accordingly"
    )


def find_retry_after(response: Response) -> float | None:
    """Seconds to wait before the next request: of the header, else of the body; None if neither says."""
    if response.retry_after is not None:
        return response.retry_after
    problem = _read_problem(response)
    if problem.retry_after is not None:
        return max(problem.retry_after, 0.0)
    found = _RESETS.search(problem.detail)
    return None if found is None else float(found[1])


def translate_failure(error: str) -> EngineError:
    """Why a prediction failed, by the text that its model wrote: there are no codes for all models."""
    line = " ".join(error.split())[:_MAX_MESSAGE_LENGTH]
    reason = f" ({line})" if line else ""
    if _FILTERED.search(error):
        return ContentFilteredError(f"replicate refused the content{reason}; change the prompt")
    if _OUT_OF_MEMORY.search(error):
        return OutOfMemoryError(
            f"the model at replicate ran out of memory{reason}; request fewer pixels"
        )
    if _INVALID_INPUT.search(error):
        return InvalidTaskError("options", f"replicate refused the input{reason}; change the task")
    return EngineFailedError(f"the prediction failed at replicate{reason}; try again")


def _read_problem(response: Response) -> _Problem:
    try:
        return _Problem.model_validate_json(response.body)
    except ValidationError:
        return _Problem()
