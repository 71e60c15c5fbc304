"""Opens downloads: every redirection is checked before it is followed."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import httpx2

from atelier_engines.connections import ssl_context

_MAX_REDIRECTS = 5
_TIMEOUT_SECONDS = 30.0  # of a connection, and of each silence


@contextmanager
def open_download(
    url: str,
    *,
    require: Callable[[str], None],
    certificates: ssl.SSLContext | None = None,
    headers: Mapping[str, str] | None = None,
) -> Iterator[httpx2.Response]:
    """The response after all redirections, successful or not.

    Args:
        url: where it is.
        require: raises ValueError for an address that a redirection may not lead to.
        certificates: whom to trust; None for those of the system.
        headers: of every request.

    Raises:
        ValueError: there are too many redirections, or one leads where it may not.
        httpx2.HTTPError: the host cannot be reached, or is silent.
        httpx2.InvalidURL: it is no address.
    """
    verify = certificates or ssl_context()
    with httpx2.Client(verify=verify, timeout=_TIMEOUT_SECONDS, headers=headers) as client:
        for _ in range(_MAX_REDIRECTS):
            with client.stream("GET", url) as response:
                if not response.has_redirect_location:
                    yield response
                    return
                url = str(response.url.join(response.headers["location"]))
            require(url)
    raise ValueError(f"more than {_MAX_REDIRECTS} redirections")
