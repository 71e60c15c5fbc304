"""Pages of generations. Their tokens are opaque to callers, and valid only for the query that returned them."""

from __future__ import annotations

import base64
import binascii
import hashlib

from atelier.v1.generation_service_pb2 import ListGenerationsRequest, ListGenerationsResponse
from atelier_server.errors import AnswerMemoryError, InvalidRequestError, Violation
from atelier_server.shared_memory import Held, SharedMemory
from atelier_server.store.protocol import Query, Store

_DEFAULT_SIZE = 50
_WAIT_SECONDS = 20.0
_MAX_SIZE = 500
MAX_PAGE_BYTES = 3 * 2**20  # clients receive at most 4 MiB unless they are set up for more


class Pages:
    """Lists generations, one page at a time: a page may keep the store, and the process, busy for 50 ms.

    Callers take turns, so that many lists of one keep another's waiting for no more than one page.
    """

    def __init__(self, store: Store) -> None:
        """List what this store has."""
        self._store = store
        self._turns = SharedMemory(1, wait_seconds=_WAIT_SECONDS, refuse=AnswerMemoryError)

    async def list(self, request: ListGenerationsRequest, caller: str) -> ListGenerationsResponse:
        """One page of the caller's generations, newest first; larger sizes are reduced to the maximum (AIP-158).

        Raises:
            InvalidRequestError: the page token is invalid, or belongs to another query.
            AnswerMemoryError: the caller has asked for more pages than can be listed in a while.
        """
        query = _read_query(request, caller)
        turn = Held(self._turns, {caller: 1.0})
        await turn.take(1)
        try:
            page = await self._store.list(query)
        finally:
            turn.shrink(0)
        token = "" if page.complete else _encode(request, page.generations[-1].id)
        return ListGenerationsResponse(generations=page.generations, next_page_token=token)


def _read_query(request: ListGenerationsRequest, caller: str) -> Query:
    return Query(
        caller=caller,
        limit=min(request.page_size or _DEFAULT_SIZE, _MAX_SIZE),
        max_bytes=MAX_PAGE_BYTES,
        before=_decode(request),
        engine=request.engine,
        states=tuple(request.states),
    )


def _encode(request: ListGenerationsRequest, last_id: str) -> str:
    """The token of the page after the one that ends with `last_id`."""
    return base64.urlsafe_b64encode(f"{_fingerprint(request)}:{last_id}".encode()).decode()


def _decode(request: ListGenerationsRequest) -> str:
    """The id that the page starts after, in descending order; empty for the first page.

    Raises:
        InvalidRequestError: the token is invalid, or belongs to another query.
    """
    if not request.page_token:
        return ""
    try:
        fingerprint, last_id = base64.urlsafe_b64decode(request.page_token).decode().split(":")
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError(
            [Violation("page_token", "is not a page token of this service")]
        ) from error
    if fingerprint != _fingerprint(request):
        raise InvalidRequestError(
            [Violation("page_token", "belongs to a query with another engine or other states")]
        )
    return last_id


def _fingerprint(request: ListGenerationsRequest) -> str:
    query = f"{request.engine}:{sorted(request.states)}"
    return hashlib.sha256(query.encode()).hexdigest()[:8]
