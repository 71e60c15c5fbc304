"""What every connection to a service has: the certificates that are trusted, and no address in the log."""

from __future__ import annotations

import functools
import logging
import ssl

import httpx2

# At INFO it logs complete URLs, and URLs of results contain signatures.
logging.getLogger("httpx2").setLevel(logging.WARNING)


@functools.cache
def ssl_context() -> ssl.SSLContext:
    """The certificates that every client trusts. Cached: loading them takes tens of milliseconds."""
    return httpx2.create_ssl_context()
