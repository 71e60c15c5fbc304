"""Page tokens: opaque to callers, and good only for the query they came from."""

from __future__ import annotations

import base64
import binascii
import hashlib

from atelier.v1.generation_service_pb2 import ListGenerationsRequest
from atelier_server.errors import InvalidRequestError, Violation

_DEFAULT_SIZE = 50
_MAX_SIZE = 500


def page_size(request: ListGenerationsRequest) -> int:
    """Generations in one page; sizes above the largest are brought down, as AIP-158 asks."""
    return min(request.page_size or _DEFAULT_SIZE, _MAX_SIZE)


def encode(request: ListGenerationsRequest, last_id: str) -> str:
    """The token of the page that follows the one which ends with `last_id`."""
    return base64.urlsafe_b64encode(f"{_fingerprint(request)}:{last_id}".encode()).decode()


def decode(request: ListGenerationsRequest) -> str:
    """The id that the page ends before; empty for the first page.

    Raises:
        InvalidRequestError: the token is not one of ours, or belongs to another query.
    """
    if not request.page_token:
        return ""
    try:
        fingerprint, last_id = base64.urlsafe_b64decode(request.page_token).decode().split(":")
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError(
            [Violation("page_token", "is not one that this service gave out")]
        ) from error
    if fingerprint != _fingerprint(request):
        raise InvalidRequestError(
            [Violation("page_token", "belongs to a list with another engine or other states")]
        )
    return last_id


def _fingerprint(request: ListGenerationsRequest) -> str:
    query = f"{request.engine}:{sorted(request.states)}"
    return hashlib.sha256(query.encode()).hexdigest()[:8]
