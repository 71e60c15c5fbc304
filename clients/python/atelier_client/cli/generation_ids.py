"""Finds the generation that a command names: by its id, the beginning of its id, or `@last`."""

from __future__ import annotations

from contextlib import closing
from itertools import islice, takewhile
from typing import TYPE_CHECKING

from atelier_client.errors import InvalidRequestError, NotFoundError

if TYPE_CHECKING:
    from atelier_client.client import Client

LAST = "@last"
_ID_LENGTH = 26
_PAGE_SIZE = 500
_MAX_CANDIDATES = 4


def resolve_id(client: Client, given: str) -> str:
    """The id of the generation.

    Raises:
        AtelierError: there is none, or more than one id begins so.
    """
    if len(given) >= _ID_LENGTH:
        return given
    if given == LAST:
        return _find_last(client)
    found = _find_candidates(client, given.lower())
    if not found:
        raise NotFoundError(
            f"no generation has an id that begins with {given!r}; see `atelier list`"
        )
    if len(found) > 1 and given not in found:
        candidates = ", ".join(found[: _MAX_CANDIDATES - 1])
        more = " …" if len(found) >= _MAX_CANDIDATES else ""
        raise InvalidRequestError(f"several ids begin with {given!r}: {candidates}{more}")
    return given if given in found else found[0]


def _find_last(client: Client) -> str:
    with closing(client.list(page_size=1)) as pages:
        newest = next(pages, None)
    if newest is None:
        raise NotFoundError("there is no generation yet")
    return newest.id


def _find_candidates(client: Client, start: str) -> list[str]:
    """Some ids that begin so, newest first."""
    with closing(client.list(page_size=_PAGE_SIZE)) as pages:
        # Ids ascend with time: behind the first smaller one there is none that begins so.
        reached = takewhile(lambda one: one.id[: len(start)] >= start, pages)
        found = (one.id for one in reached if one.id.startswith(start))
        return list(islice(found, _MAX_CANDIDATES))
