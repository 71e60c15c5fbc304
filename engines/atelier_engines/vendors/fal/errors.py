"""Translates fal's errors: its error types take precedence over HTTP statuses."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ValidationError

from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
    EngineQuotaError,
    EngineUnavailableError,
    InvalidTaskError,
    JobStoppedError,
    TaskFailedError,
)
from atelier_engines.vendors.responses import Response

_MAX_MESSAGE_LENGTH = 300
_BAD_REQUEST = 400
_FORBIDDEN = frozenset({401, 403})
_NOT_FOUND = 404
_CLIENT_CLOSED_REQUEST = 499
_GATEWAY_TIMEOUT = 504
_FIELDS: Mapping[str, str] = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "image_size": "width",
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "image_url": "init_image",
    "mask_url": "mask",
    "strength": "strength",
    "seed": "seed",
    "loras": "loras",
}
_RUNNER_FAILURES = frozenset(
    {
        "request_timeout",
        "startup_timeout",
        "generation_timeout",
        "internal_error",
        "internal_server_error",
        "downstream_service_unavailable",
    }
)
STOPPED_TYPES = frozenset({"client_cancelled", "client_disconnected"})
"""Types of the failures of jobs that somebody stopped."""


class _Detail(BaseModel):
    """One error in a request."""

    loc: tuple[str | int, ...] = ()
    msg: str = ""
    type: str = ""


class _ErrorBody(BaseModel):
    """An error response: model errors have a list of details, others a text and a type."""

    detail: tuple[_Detail, ...] | str = ""
    error_type: str = ""
    status: str = ""


def translate_error(response: Response, *, key: str) -> EngineError | None:
    """The error for a response of status 400 to 499; None where its HTTP status says enough."""
    try:
        body = _ErrorBody.model_validate_json(response.body)
    except ValidationError:
        return None
    details = body.detail if isinstance(body.detail, tuple) else ()
    types = {body.error_type, response.headers.get("x-fal-error-type", "")}
    types |= {detail.type for detail in details}
    message = response.error_message((key, *key.split(":")))[:_MAX_MESSAGE_LENGTH]
    return (
        _by_type(types, message)
        or _by_status(response.status, body, message)
        or _by_field(details, message)
    )


def is_final(response: Response) -> bool:
    """Whether fal says that a repetition is useless: by its headers, or because the job did not start in time.

    Source: fal.ai/docs, errors (the first header has two names there); `fal-client` 1.0.3, _should_retry_response.
    """
    headers = response.headers
    retryable = headers.get("x-fal-retryable", headers.get("x-fal-needs-retry", ""))
    dropped = response.status == _GATEWAY_TIMEOUT and "x-fal-request-timeout-type" in headers
    return dropped or retryable.lower() == "false"


def translate_failure(error: str, error_type: str) -> EngineError | None:
    """Why a completed job failed, where its status says enough; else its result does."""
    reason = f" ({error[:_MAX_MESSAGE_LENGTH]})" if error else ""
    if error_type == "content_policy_violation":
        return ContentFilteredError(f"fal refused the task{reason}; change the prompt")
    if error_type in STOPPED_TYPES:
        return JobStoppedError(f"the job was cancelled at fal{reason}; try again")
    if error_type in _RUNNER_FAILURES or error_type.startswith("runner_"):
        return EngineFailedError(f"fal failed to run the job: {error_type}{reason}; try again")
    return None


def _by_type(types: set[str], message: str) -> EngineError | None:
    if "content_policy_violation" in types:
        return ContentFilteredError(f"fal refused the task ({message}); change the prompt")
    if "no_media_generated" in types:
        return TaskFailedError(f"fal generated no image ({message}); change the prompt")
    return None


def _by_status(status: int, body: _ErrorBody, message: str) -> EngineError | None:
    if status == _CLIENT_CLOSED_REQUEST:
        return JobStoppedError("the job was cancelled at fal")
    if status == _NOT_FOUND and body.status == "NOT_FOUND":
        return EngineFailedError("the job is lost: fal does not know it any more")
    if status in _FORBIDDEN and ("balance" in message.lower() or "locked" in message.lower()):
        return EngineQuotaError(f"fal answered {status}: {message}; the account has no credit left")
    if status == _BAD_REQUEST and "in progress" in message:
        return EngineUnavailableError("fal has not finished the job yet")
    return None


def _by_field(details: tuple[_Detail, ...], message: str) -> InvalidTaskError | None:
    for detail in details:
        for part in detail.loc:
            if part in _FIELDS:
                return InvalidTaskError(
                    _FIELDS[str(part)],
                    f"fal refused {part}: {message}; change the task accordingly",
                )
    return None
