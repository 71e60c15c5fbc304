"""Translates the SDK's exceptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx2
import openai

from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
    EngineQuotaError,
    EngineUnavailableError,
)
from atelier_engines.retrying import RetryableError
from atelier_engines.vendors import errors
from atelier_engines.vendors.openai.models import SHUTDOWNS
from atelier_engines.vendors.responses import find_retry_after

NAME = "openai"
_MAX_MESSAGE_LENGTH = 200
_MODERATION_CODES = frozenset({"moderation_blocked", "content_policy_violation"})
_QUOTA_CODES = frozenset(
    {"insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached"}
)
_QUOTA_CODE_SUFFIX = "_spend_limit_exceeded"
_MODEL_CODE = "model_not_found"


@contextmanager
def translate_sdk_errors(key: str, model: str, *, paid: bool) -> Iterator[None]:
    """Raise errors of engines instead of the SDK's; `key` is removed from the service's messages.

    If the service has no such `model` any more, the error names its successors.

    Raises:
        RetryableError: the service started nothing, and another attempt may succeed.
        EngineError: anything else.
    """
    try:
        yield
    except openai.APIConnectionError as error:
        cause = error.__cause__
        known = cause if isinstance(cause, httpx2.HTTPError) else TimeoutError()
        raise _make_retryable(errors.translate_transport(NAME, known, paid=paid), 0.0) from error
    except openai.APIStatusError as error:
        raise _translate_status(
            error, key, model, paid=paid
        ) from None  # its text repeats the response
    except openai.APIResponseValidationError:
        raise errors.invalid_response(NAME, "of an unknown shape", paid=paid) from None
    except openai.APIError as error:  # within a stream
        raise _translate_code(error, key, model) or EngineFailedError(
            f"{NAME} failed while it generated: {_error_message(error, key)}"
        ) from None
    except (httpx2.HTTPError, TimeoutError) as error:
        raise errors.translate_transport(NAME, error, paid=paid) from error
    except ValueError as error:  # not JSON
        raise errors.invalid_response(NAME, "of an unknown shape", paid=paid) from error


def _translate_status(
    error: openai.APIStatusError, key: str, model: str, *, paid: bool
) -> Exception:
    specific = _translate_code(error, key, model)
    if specific is not None:
        return specific
    after = find_retry_after(error.response.headers)
    translated = errors.translate_status(
        NAME, error.status_code, _error_message(error, key), retry_after=after, paid=paid
    )
    if error.status_code in errors.NOT_STARTED:
        return _make_retryable(translated, after or 0.0)
    return translated


def _make_retryable(error: EngineError, after: float) -> Exception:
    return RetryableError(error, after) if isinstance(error, EngineUnavailableError) else error


def _translate_code(error: openai.APIError, key: str, model: str) -> EngineError | None:
    """Translate an error code that decides, whatever the HTTP status."""
    code = error.code or ""
    if code in _MODERATION_CODES:
        return ContentFilteredError(f"{NAME} refused the content: {_error_message(error, key)}")
    if code in _QUOTA_CODES or code.endswith(_QUOTA_CODE_SUFFIX):
        return EngineQuotaError(
            f"{NAME} quota or spending limit reached: {_error_message(error, key)}"
        )
    if code == _MODEL_CODE:
        shutdown = SHUTDOWNS.get(model)
        hint = "" if shutdown is None else f"; {shutdown.explain(model)}"
        return EngineFailedError(
            f"{NAME} does not have the configured model: {_error_message(error, key)}{hint}"
        )
    return None


def _error_message(error: openai.APIError, key: str) -> str:
    body = error.body
    text = str(body.get("message", "")) if isinstance(body, Mapping) else ""
    return " ".join(text.replace(key, "…").split())[:_MAX_MESSAGE_LENGTH]
