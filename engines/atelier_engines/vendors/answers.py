"""Answers of remote services, read whole but never without a limit, and what they explain."""

from __future__ import annotations

import email.utils
import json
import math
import time
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import httpx2

_LONGEST_RETRY_AFTER_SECONDS = 86400.0
_SHORTEST_SECRET = 6
_LONGEST_EXPLANATION = 2000
_EXPLAINING = ("detail", "error", "message", "msg")
_OPEN_HEADERS = frozenset(
    {"accept", "accept-encoding", "connection", "content-type", "host", "user-agent"}
)


class TooLargeError(Exception):
    """The answer has more bytes than allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer that has been read."""

    status: int
    """Of HTTP."""
    headers: httpx2.Headers
    """Of HTTP."""
    body: bytes
    """Decompressed."""

    @property
    def media_type(self) -> str:
        """For instance image/png; empty when not said."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def retry_after(self) -> float | None:
        """Seconds that the service wants to be left alone; None when it does not say."""
        return seconds_from_retry_after(self.headers.get("retry-after", ""), now=time.time())

    def explanation(self, secrets: Iterable[str]) -> str:
        """What the service says, in whichever of the usual shapes, on one line and without `secrets`."""
        try:
            text = _text_in(json.loads(self.body))
        except (ValueError, RecursionError):
            return ""
        for secret in secrets:
            text = text.replace(secret, "…")
        return " ".join(text[:_LONGEST_EXPLANATION].split())


async def read(response: httpx2.Response, *, limit: int) -> Answer:
    """Read the answer whole.

    Raises:
        TooLargeError: it has more than `limit` bytes; the rest is not read.
        httpx2.HTTPError: the connection broke.
    """
    announced = response.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise TooLargeError
    body = bytearray()
    async with aclosing(response.aiter_bytes()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                raise TooLargeError
    return Answer(status=response.status_code, headers=response.headers, body=bytes(body))


def seconds_from_retry_after(value: str, *, now: float) -> float | None:
    """What a Retry-After header says: seconds, or the date until when. At most a day, never negative.

    Source: RFC 9110, section 10.2.3.
    """
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - now
        except (ValueError, OverflowError):
            return None
    if math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_SECONDS)


def secrets_of(headers: httpx2.Headers) -> tuple[str, ...]:
    """Every value that may be a key: whole, and without the scheme before it (`Bearer`)."""
    values = [value for name, value in headers.items() if name.lower() not in _OPEN_HEADERS]
    parts = [part for value in values for part in (value, value.rpartition(" ")[2])]
    return tuple(part for part in parts if len(part) >= _SHORTEST_SECRET)


def _text_in(body: object) -> str:
    while isinstance(body, Mapping):
        body = next((body[key] for key in _EXPLAINING if body.get(key)), "")
    if isinstance(body, list):
        return "; ".join(
            str(item.get("msg", item) if isinstance(item, Mapping) else item) for item in body
        )
    return str(body)
