"""The only socket to remote services: JSON out, models in, faults as our errors, paid requests never twice."""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict, TypeVar, Unpack

import httpx2
from pydantic import BaseModel, ValidationError

from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
    EngineUnavailableError,
)
from atelier_engines.media import Encoded
from atelier_engines.task import JSON
from atelier_engines.vendors import answers, errors
from atelier_engines.vendors.answers import Answer
from atelier_engines.vendors.repeating import AgainError, repeated

AnswerT = TypeVar("AnswerT", bound=BaseModel)
Part = tuple[str, tuple[str | None, bytes, str]]
"""One part of a form: its name; file name (None for a field), content, media type."""

_MOST_REDIRECTS = 5
_SERVER_ERROR = 500
_GONE = frozenset({401, 403, 404, 410})  # how storage refuses links whose time is over

# At INFO it logs every URL whole, and links to results carry signatures.
logging.getLogger("httpx2").setLevel(logging.WARNING)


class Content(TypedDict, total=False):
    """What a request carries, named as httpx names it."""

    json: JSON
    params: Mapping[str, str | int]
    data: Mapping[str, str]
    files: Sequence[Part]
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """A connection to one service. Keys live in the headers of `client`, and nowhere else."""

    name: str
    """For messages: fal, bfl …"""
    client: httpx2.AsyncClient
    """With base URL, headers and timeouts set; closed by whoever made it."""
    hosts: tuple[str, ...] = ()
    """Ends of the names of further hosts (`.acme.ai`) that may see the keys; all others never do."""
    filtered: frozenset[int] = frozenset()
    """Statuses by which this service refuses content, whatever they mean elsewhere."""
    delay_scale: float = 1.0
    """Multiplies every pause; tests make it small."""
    patience_seconds: float = 300.0
    """The longest that one answer may take from the request to its last byte."""
    max_bytes: int = 128 * 2**20
    """The largest answer, results included."""
    refusal: Callable[[Answer], EngineError | None] | None = None
    """Reads refusals (status 400 to 499) that this service words in its own way; None leaves one to `faults`."""

    async def read(
        self, method: str, url: str, *, answer: type[AnswerT], **request: Unpack[Content]
    ) -> AnswerT:
        """Ask for something that costs nothing and can be asked again; tried a few times.

        Raises:
            EngineError: see `faults`; EngineFailedError also when the answer is not of that shape,
                or `url` lies on a host that must not see the keys.
        """
        return self._parse(await self._keyed(method, url, request, paid=False), answer, paid=False)

    async def order(
        self, method: str, url: str, *, answer: type[AnswerT], **request: Unpack[Content]
    ) -> AnswerT:
        """Ask for something that costs money: tried again only while the service surely has not begun.

        Raises:
            EngineUncertainError: nobody knows whether it was accepted: the connection broke, the
                service failed, or its answer is not of that shape.
            EngineError: see `faults`.
        """
        return self._parse(await self._keyed(method, url, request, paid=True), answer, paid=True)

    async def download(self, url: str, *, kinds: tuple[str, ...] = ("image/", "audio/")) -> Encoded:
        """Fetch a result, at once and whole. No key is sent along: results lie on other hosts.

        Only https is followed, unless the base URL itself is http.

        Raises:
            EngineFailedError: it is gone, too large, or of another kind than `kinds` (starts of media types).
            EngineUnavailableError: it can't be reached.
        """

        async def safe(request: httpx2.Request) -> None:
            self._require_scheme(request.url)

        async with httpx2.AsyncClient(
            timeout=self.client.timeout,
            follow_redirects=True,
            max_redirects=_MOST_REDIRECTS,
            verify=trust(),
            event_hooks={"request": [safe]},
        ) as bare:
            found = await self._tried(bare, "GET", url, {}, paid=False)
        return self._result(found, kinds)

    async def fetch(
        self, url: str, *, kinds: tuple[str, ...] = ("image/", "audio/"), **request: Unpack[Content]
    ) -> Encoded:
        """Fetch a result that lies at the service itself, behind its key; otherwise as `download`.

        Raises:
            EngineFailedError: it is gone, too large, of another kind than `kinds`, or on another host.
            EngineUnavailableError: it can't be reached.
        """
        return self._result(await self._keyed("GET", url, request, paid=False), kinds)

    def _result(self, found: Answer, kinds: tuple[str, ...]) -> Encoded:
        if not found.media_type.startswith(kinds):
            raise EngineFailedError(
                f"{self.name} delivered {found.media_type or 'nothing known'} instead of a result"
            )
        return Encoded(media_type=found.media_type, data=found.body)

    async def pause(self, seconds: float) -> None:
        """Wait between polls."""
        await asyncio.sleep(seconds * self.delay_scale)

    async def _keyed(self, method: str, url: str, content: Content, *, paid: bool) -> Answer:
        self._require_own_host(url)
        return await self._tried(self.client, method, url, content, paid=paid)

    async def _tried(
        self, client: httpx2.AsyncClient, method: str, url: str, content: Content, *, paid: bool
    ) -> Answer:
        once = functools.partial(self._once, client, method, url, content, paid=paid)
        return await repeated(once, self.pause)

    async def _once(
        self, client: httpx2.AsyncClient, method: str, url: str, content: Content, *, paid: bool
    ) -> Answer:
        try:
            async with (
                asyncio.timeout(self.patience_seconds),
                client.stream(method, url, **content) as response,
            ):
                found = await answers.read(response, limit=self.max_bytes)
        except answers.TooLargeError as error:
            what = f"of more than {self.max_bytes} bytes"
            raise errors.of_nonsense(self.name, what, paid=paid) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
            fault = errors.of_transport(self.name, error, paid=paid)
            if isinstance(fault, EngineUnavailableError):
                raise AgainError(fault, 0.0) from error
            raise fault from error
        if not response.is_success:
            raise self._fault(found, keyed=client is self.client, paid=paid)
        return found

    def _fault(self, found: Answer, *, keyed: bool, paid: bool) -> Exception:
        if keyed and self.refusal and found.status < _SERVER_ERROR and (own := self.refusal(found)):
            return own
        if not keyed and found.status in _GONE:
            return EngineFailedError(
                f"the result at {self.name} is gone or its link has expired ({found.status})"
            )
        after = found.retry_after
        text = found.explanation(answers.secrets_of(self.client.headers))
        if found.status in self.filtered:
            return ContentFilteredError(f"{self.name} refused the content: {text or found.status}")
        refusal = errors.of_status(self.name, found.status, text, retry_after=after, paid=paid)
        if found.status in errors.UNTOUCHED or (not paid and errors.passing(found.status)):
            return AgainError(refusal, after or 0.0)
        return refusal

    def _parse(self, found: Answer, answer: type[AnswerT], *, paid: bool) -> AnswerT:
        try:
            return answer.model_validate_json(found.body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            what = f"of an unknown shape ({place or 'it'}: {first['msg']})"
            raise errors.of_nonsense(self.name, what, paid=paid) from None  # it quotes the answer

    def _require_own_host(self, url: str) -> None:
        try:
            there = self.client.base_url.join(url)
        except httpx2.InvalidURL as error:
            raise errors.of_transport(self.name, error, paid=False) from error
        own = there.host == self.client.base_url.host or there.host.endswith(self.hosts)
        if not own:
            msg = f"{self.name} named an address on {there.host}, which must not see the key"
            raise EngineFailedError(msg)
        self._require_scheme(there)

    def _require_scheme(self, url: httpx2.URL) -> None:
        if url.scheme not in {"https", self.client.base_url.scheme}:
            msg = f"{self.name} named an address that is not https"
            raise EngineFailedError(msg)


@functools.cache
def trust() -> ssl.SSLContext:
    """Whom to trust, for every client. Made once: reading the certificates takes tens of milliseconds."""
    return httpx2.create_ssl_context()
