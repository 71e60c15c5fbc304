"""HTTP responses of remote services, read whole up to a limit, and the error messages in them."""

from __future__ import annotations

import email.utils
import json
import math
import time
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import httpx2

_MAX_RETRY_AFTER_SECONDS = 86400.0
_MIN_SECRET_LENGTH = 6
_MAX_MESSAGE_LENGTH = 2000
_MESSAGE_KEYS = ("detail", "error", "message", "msg")
_PUBLIC_HEADERS = frozenset(
    {"accept", "accept-encoding", "connection", "content-type", "host", "user-agent"}
)


class ResponseTooLargeError(Exception):
    """The response body has more bytes than allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response that has been read whole."""

    status: int
    """HTTP status."""
    headers: httpx2.Headers
    """HTTP headers."""
    body: bytes
    """Body, decompressed."""

    @property
    def media_type(self) -> str:
        """Media type such as image/png; empty when the response has none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait before the next request; None when the response has no Retry-After."""
        return find_retry_after(self.headers)

    def error_message(self, secrets: Iterable[str]) -> str:
        """The error message in the JSON body, whatever its shape, on one line and without `secrets`; or empty."""
        try:
            text = _extract_message(json.loads(self.body))
        except (ValueError, RecursionError):
            return ""
        for secret in secrets:
            text = text.replace(secret, "…")
        return " ".join(text[:_MAX_MESSAGE_LENGTH].split())


async def read(response: httpx2.Response, *, limit: int) -> Response:
    """Read the response whole.

    Raises:
        ResponseTooLargeError: it has more than `limit` bytes; the rest is not read.
        httpx2.HTTPError: the connection broke.
    """
    announced = response.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise ResponseTooLargeError
    body = bytearray()
    async with aclosing(response.aiter_bytes()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                raise ResponseTooLargeError
    return Response(status=response.status_code, headers=response.headers, body=bytes(body))


def find_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the header Retry-After says, 0 to one day; None if it is absent or malformed.

    A date there is compared with that of the response, so that this machine's clock does not matter.
    Source: RFC 9110, sections 6.6.1 and 10.2.3.
    """
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        end = _parse_date(value)
        if end is None:
            return None
        now = _parse_date(headers.get("date", ""))
        seconds = end - (time.time() if now is None else now)  # both are dates
    if math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_SECONDS)


def _parse_date(value: str) -> float | None:
    """Unix time of an HTTP date; None if malformed."""
    try:
        return email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None


def find_secrets(headers: httpx2.Headers) -> tuple[str, ...]:
    """Every header value that may be an API key: whole, and without the scheme before it (`Bearer`)."""
    values = [value for name, value in headers.items() if name.lower() not in _PUBLIC_HEADERS]
    parts = [part for value in values for part in (value, value.rpartition(" ")[2])]
    return tuple(part for part in parts if len(part) >= _MIN_SECRET_LENGTH)


def _extract_message(body: object) -> str:
    while isinstance(body, Mapping):
        body = next((body[key] for key in _MESSAGE_KEYS if body.get(key)), "")
    if isinstance(body, list):
        return "; ".join(
            str(item.get("msg", item) if isinstance(item, Mapping) else item) for item in body
        )
    return str(body)
