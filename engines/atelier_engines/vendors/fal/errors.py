"""What fal means when it refuses: its error types come before the table of statuses."""

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
)
from atelier_engines.vendors.responses import Response

_LONGEST_TEXT = 300
_BAD_REQUEST = 400
_FORBIDDEN = frozenset({401, 403})
_NOT_FOUND = 404
_CANCELLED = 499
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
_OF_RUNNERS = frozenset(
    {
        "request_timeout",
        "startup_timeout",
        "generation_timeout",
        "internal_error",
        "internal_server_error",
        "downstream_service_unavailable",
        "client_cancelled",
        "client_disconnected",
    }
)


class _Detail(BaseModel):
    """One fault of a request."""

    loc: tuple[str | int, ...] = ()
    msg: str = ""
    type: str = ""


class _Refusal(BaseModel):
    """Model errors have a list of details, others a text and a type."""

    detail: tuple[_Detail, ...] | str = ""
    error_type: str = ""
    status: str = ""


def refusal_of(found: Response, *, key: str) -> EngineError | None:
    """The error that an answer of status 400 to 499 means; None where the table of statuses is right."""
    try:
        refusal = _Refusal.model_validate_json(found.body)
    except ValidationError:
        return None
    details = refusal.detail if isinstance(refusal.detail, tuple) else ()
    types = {refusal.error_type, found.headers.get("x-fal-error-type", "")}
    types |= {detail.type for detail in details}
    says = found.error_message((key, *key.split(":")))[:_LONGEST_TEXT]
    return (
        _by_type(types, says) or _by_status(found.status, refusal, says) or _misfit(details, says)
    )


def failure_of(error: str, error_type: str) -> EngineError | None:
    """Why a completed job failed, where its state says enough; else its result does."""
    says = f" ({error[:_LONGEST_TEXT]})" if error else ""
    if error_type == "content_policy_violation":
        return ContentFilteredError(f"fal refused the task{says}; change the prompt")
    if error_type in _OF_RUNNERS or error_type.startswith("runner_"):
        return EngineFailedError(f"fal failed at the job: {error_type}{says}; try again")
    return None


def _by_type(types: set[str], says: str) -> EngineError | None:
    if "content_policy_violation" in types:
        return ContentFilteredError(f"fal refused the task ({says}); change the prompt")
    if "no_media_generated" in types:
        return EngineFailedError(f"fal made no picture ({says}); change the prompt or try again")
    return None


def _by_status(status: int, refusal: _Refusal, says: str) -> EngineError | None:
    if status == _CANCELLED:
        return EngineFailedError("the job was cancelled at fal")
    if status == _NOT_FOUND and refusal.status == "NOT_FOUND":
        return EngineFailedError("the job is lost: fal does not know it any more")
    if status in _FORBIDDEN and ("balance" in says.lower() or "locked" in says.lower()):
        return EngineQuotaError(f"fal answered {status}: {says}; the account has no credit left")
    if status == _BAD_REQUEST and "in progress" in says:
        return EngineUnavailableError("fal has not finished the job yet")
    return None


def _misfit(details: tuple[_Detail, ...], says: str) -> InvalidTaskError | None:
    for detail in details:
        for part in detail.loc:
            if part in _FIELDS:
                return InvalidTaskError(
                    _FIELDS[str(part)], f"fal refused {part}: {says}; change the task accordingly"
                )
    return None
