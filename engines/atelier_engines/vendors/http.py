"""The only socket to remote services: JSON out, models in, faults as our errors, paid requests never twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from atelier_engines.errors import EngineError, EngineFailedError, EngineUnavailableError
from atelier_engines.media import Encoded
from atelier_engines.task import JSON
from atelier_engines.vendors import faults

AnswerT = TypeVar("AnswerT", bound=BaseModel)

_TRIES = 5
_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 10.0
_REFUSED_UNTOUCHED = frozenset({409, 425, 429, 503})  # the vendor says that it took nothing on
_LARGEST_MEDIA = 128 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """A connection to one service. Keys live in the headers of `client`, and nowhere else."""

    name: str
    """For messages: fal, bfl …"""
    client: httpx2.AsyncClient
    """With base URL, headers and timeouts set; closed by whoever made it."""
    delay_scale: float = 1.0
    """Multiplies every pause; tests make it small."""

    async def read(
        self, method: str, url: str, *, answer: type[AnswerT], **request: JSON
    ) -> AnswerT:
        """Ask for something that costs nothing and can be asked again; tried a few times.

        `request` takes `json` and `params`, as httpx does.

        Raises:
            EngineError: see `faults`; EngineFailedError also when the answer is not of that shape.
        """
        response = await self._tried(method, url, request, paid=False)
        return self._parse(response, answer)

    async def order(
        self, method: str, url: str, *, answer: type[AnswerT], **request: JSON
    ) -> AnswerT:
        """Ask for something that costs money: tried again only while the service surely has not begun.

        Raises:
            EngineUncertainError: the connection broke and nobody knows whether it arrived.
            EngineError: see `faults`; EngineFailedError also when the answer is not of that shape.
        """
        response = await self._tried(method, url, request, paid=True)
        return self._parse(response, answer)

    async def download(self, url: str, *, kinds: tuple[str, ...] = ("image/", "audio/")) -> Encoded:
        """Fetch a result, at once and whole. No key is sent along: results lie on other hosts.

        Raises:
            EngineFailedError: it is gone, too large, or of another kind than `kinds` (starts of media types).
            EngineUnavailableError: it can't be reached.
        """
        async with httpx2.AsyncClient(timeout=self.client.timeout, follow_redirects=True) as bare:
            response = await self._tried("GET", url, {}, paid=False, client=bare)
        media_type = response.headers.get("content-type", "").partition(";")[0].strip()
        if not media_type.startswith(kinds):
            raise EngineFailedError(
                f"{self.name} delivered {media_type or 'nothing known'} instead of a result"
            )
        return Encoded(media_type=media_type, data=response.content)

    async def pause(self, seconds: float) -> None:
        """Wait between polls."""
        await asyncio.sleep(seconds * self.delay_scale)

    async def _tried(
        self,
        method: str,
        url: str,
        request: Mapping[str, JSON],
        *,
        paid: bool,
        client: httpx2.AsyncClient | None = None,
    ) -> httpx2.Response:
        delay = _FIRST_DELAY_SECONDS
        for left in reversed(range(_TRIES)):
            try:
                return await self._once(client or self.client, method, url, request, paid=paid)
            except _AgainError as again:
                if not left:
                    raise again.error from again.__cause__
                wait = max(delay * random.uniform(0.5, 1.5), again.after)  # noqa: S311 (jitter, no secret)
            await self.pause(min(wait, _LONGEST_DELAY_SECONDS))
            delay *= 2
        raise AssertionError("the last try returns or raises")

    async def _once(
        self,
        client: httpx2.AsyncClient,
        method: str,
        url: str,
        request: Mapping[str, JSON],
        *,
        paid: bool,
    ) -> httpx2.Response:
        try:
            response = await client.request(method, url, **request)  # type: ignore[arg-type]
        except httpx2.HTTPError as error:
            fault = faults.of_transport(self.name, error, paid=paid)
            if isinstance(fault, EngineUnavailableError):
                raise _AgainError(fault, 0.0) from error
            raise fault from error
        if response.is_success:
            return response
        after = _retry_after(response)
        refusal = faults.of_status(
            self.name, response.status_code, _explanation(response), retry_after=after
        )
        untouched = response.status_code in _REFUSED_UNTOUCHED
        if isinstance(refusal, EngineUnavailableError) and (
            untouched or (not paid and response.is_server_error)
        ):
            raise _AgainError(refusal, after or 0.0)
        raise refusal

    def _parse(self, response: httpx2.Response, answer: type[AnswerT]) -> AnswerT:
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            raise EngineFailedError(
                f"{self.name} sent an answer of an unknown shape: {error.errors()[0]['msg']}"
            ) from error


class _AgainError(Exception):
    """Worth another try."""

    def __init__(self, error: EngineError, after: float) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after


def _retry_after(response: httpx2.Response) -> float | None:
    try:
        return float(response.headers["retry-after"])
    except (KeyError, ValueError):  # absent, or a date
        return None


def _explanation(response: httpx2.Response) -> str:
    """What the vendor says, in whichever of the usual shapes."""
    try:
        body = response.json()
    except ValueError:
        return ""
    while isinstance(body, Mapping):
        body = next((body[key] for key in ("detail", "error", "message", "msg") if key in body), "")
    if isinstance(body, list):
        return "; ".join(
            str(item.get("msg", item) if isinstance(item, Mapping) else item) for item in body
        )
    return str(body)
