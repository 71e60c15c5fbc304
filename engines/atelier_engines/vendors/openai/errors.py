"""What the SDK's exceptions mean."""

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
from atelier_engines.vendors import errors
from atelier_engines.vendors.responses import parse_retry_after
from atelier_engines.vendors.retry import RetryableError

NAME = "openai"
_LONGEST_REASON = 200
_MODERATED = frozenset({"moderation_blocked", "content_policy_violation"})
_QUOTA = frozenset({"insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached"})
_QUOTA_END = "_spend_limit_exceeded"


@contextmanager
def translated(key: str, *, paid: bool) -> Iterator[None]:
    """Lets out our errors instead of the SDK's; `key` is struck from what the service says.

    Raises:
        AgainError: nothing was begun, and another try may help.
        EngineError: anything else.
    """
    try:
        yield
    except openai.APIConnectionError as error:
        cause = error.__cause__
        known = cause if isinstance(cause, httpx2.HTTPError) else TimeoutError()
        raise _again(errors.translate_transport(NAME, known, paid=paid), 0.0) from error
    except openai.APIStatusError as error:
        raise _of_status(error, key, paid=paid) from None  # its text repeats the whole answer
    except openai.APIResponseValidationError:
        raise errors.invalid_response(NAME, "of an unknown shape", paid=paid) from None
    except openai.APIError as error:  # in the middle of a stream
        raise _known(error, key) or EngineFailedError(
            f"{NAME} failed half way: {_says(error, key)}"
        ) from None
    except (httpx2.HTTPError, TimeoutError) as error:
        raise errors.translate_transport(NAME, error, paid=paid) from error
    except ValueError as error:  # no JSON
        raise errors.invalid_response(NAME, "of an unknown shape", paid=paid) from error


def _of_status(error: openai.APIStatusError, key: str, *, paid: bool) -> Exception:
    known = _known(error, key)
    if known is not None:
        return known
    after = parse_retry_after(error.response.headers.get("retry-after", ""), now=0)
    fault = errors.translate_status(
        NAME, error.status_code, _says(error, key), retry_after=after, paid=paid
    )
    return _again(fault, after or 0.0) if error.status_code in errors.NOT_STARTED else fault


def _again(fault: EngineError, after: float) -> Exception:
    return RetryableError(fault, after) if isinstance(fault, EngineUnavailableError) else fault


def _known(error: openai.APIError, key: str) -> EngineError | None:
    """What the code says, whatever the status."""
    code = error.code or ""
    if code in _MODERATED:
        return ContentFilteredError(f"{NAME} refused the content: {_says(error, key)}")
    if code in _QUOTA or code.endswith(_QUOTA_END):
        return EngineQuotaError(f"{NAME} refuses until its account is charged: {_says(error, key)}")
    return None


def _says(error: openai.APIError, key: str) -> str:
    body = error.body
    text = str(body.get("message", "")) if isinstance(body, Mapping) else ""
    return " ".join(text.replace(key, "…").split())[:_LONGEST_REASON]
