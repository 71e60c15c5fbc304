"""HTTP client of remote services: validated responses, errors as EngineError, paid requests at most once."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TypedDict, TypeVar, Unpack

import httpx2
from pydantic import BaseModel, ValidationError

from atelier_engines.connections import ssl_context
from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
    EngineUnavailableError,
)
from atelier_engines.http_calls import note_call
from atelier_engines.media import Encoded
from atelier_engines.retrying import RetryableError, retry
from atelier_engines.task import JSON
from atelier_engines.vendors import errors, responses
from atelier_engines.vendors.responses import Response
from atelier_engines.vendors.result_addresses import make_transport

ModelT = TypeVar("ModelT", bound=BaseModel)
FormPart = tuple[str, tuple[str | None, bytes, str]]
"""One part of a multipart form: its name; file name (None for a field), content, media type."""

_MAX_REDIRECTS = 5
_CONNECT_TIMEOUT_SECONDS = 10.0
_SERVER_ERROR = 500
_GONE = frozenset({401, 403, 404, 410})  # what storage answers for expired links


class AnyResponse(BaseModel):
    """A JSON response of which only the status matters."""


class RequestContent(TypedDict, total=False):
    """Content of a request, by the names that httpx uses."""

    json: JSON
    params: Mapping[str, str | int]
    data: Mapping[str, str]
    files: Sequence[FormPart]
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorClient:
    """A client of one remote service. Its API key stands in the headers of `client`, and nowhere else."""

    name: str
    """Name of the service in error messages: fal, bfl …"""
    client: httpx2.AsyncClient
    """HTTP client made by `connect`."""
    trusted_hosts: tuple[str, ...] = ()
    """Suffixes of further host names (`.acme.ai`) that may receive the API key; no other host ever does."""
    content_filter_statuses: frozenset[int] = frozenset()
    """HTTP statuses by which this service rejects content, whatever they mean elsewhere."""
    delay_scale: float = 1.0
    """Factor for every pause; tests make it small."""
    response_timeout_seconds: float = 300.0
    """Maximum time from sending a request to the last byte of its response."""
    max_response_bytes: int = 128 * 2**20
    """Maximum size of a response body, results included."""
    translate_error: Callable[[Response], EngineError | None] | None = None
    """Translates responses with status 400 to 499 that are specific to this service; None: see `errors`."""
    is_final: Callable[[Response], bool] = lambda _: False
    """Whether the service itself says that it is useless to repeat the request, whatever the status."""
    find_retry_after: Callable[[Response], float | None] = attrgetter("retry_after")
    """Seconds that a response asks to wait before the next request; for services that say so in the body."""

    async def request(
        self, method: str, url: str, *, model: type[ModelT], **content: Unpack[RequestContent]
    ) -> ModelT:
        """Send a request that is free of charge and idempotent, with retries; returns the parsed response.

        Raises:
            EngineError: see `vendors.errors`; EngineFailedError also when the response does not match `model`,
                or `url` is on a host that must not receive the API key.
        """
        return self._parse(
            await self._send_with_key(method, url, content, paid=False), model, paid=False
        )

    async def submit_once(
        self, method: str, url: str, *, model: type[ModelT], **content: Unpack[RequestContent]
    ) -> ModelT:
        """Send a request that costs money; retried only when the service certainly has not started it.

        Raises:
            EngineUncertainError: it is unknown whether the request was accepted: the connection broke,
                the service failed, or its response does not match `model`.
            EngineError: see `vendors.errors`.
        """
        return self._parse(
            await self._send_with_key(method, url, content, paid=True), model, paid=True
        )

    async def download(self, url: str, *, kinds: tuple[str, ...] = ("image/", "audio/")) -> Encoded:
        """Download a result whole, without the API key: results are on other hosts.

        Only https URLs at public addresses are requested, redirects included, unless the base URL itself is http, or
        at an address that is not public.

        Raises:
            EngineFailedError: it is gone, too large, at another address, or its media type starts with none of `kinds`.
            EngineUnavailableError: the host cannot be reached.
        """

        async def require_scheme(request: httpx2.Request) -> None:
            self._require_scheme(request.url)

        async with httpx2.AsyncClient(
            timeout=self.client.timeout,
            follow_redirects=True,
            max_redirects=_MAX_REDIRECTS,
            verify=ssl_context(),
            transport=make_transport(self.name, self.client.base_url.host),
            event_hooks={"request": [require_scheme]},
        ) as without_key:
            send = functools.partial(self._send, without_key, "GET", url, {}, paid=False)
            response = await retry(send, self.pause)
        return self._require_media_type(response, kinds)

    async def fetch(
        self,
        url: str,
        *,
        kinds: tuple[str, ...] = ("image/", "audio/"),
        **content: Unpack[RequestContent],
    ) -> Encoded:
        """Download a result from the service itself, with the API key; otherwise as `download`.

        Raises:
            EngineFailedError: it is gone, too large, on another host, or its media type starts with
                none of `kinds`.
            EngineUnavailableError: the service cannot be reached.
        """
        return self._require_media_type(
            await self._send_with_key("GET", url, content, paid=False), kinds
        )

    def _require_media_type(self, response: Response, kinds: tuple[str, ...]) -> Encoded:
        if not response.media_type.startswith(kinds):
            raise EngineFailedError(
                f"{self.name} sent {response.media_type or 'an unknown media type'} instead of a result"
            )
        return Encoded(media_type=response.media_type, data=response.body)

    async def pause(self, seconds: float) -> None:
        """Sleep for that long, times `delay_scale`."""
        await asyncio.sleep(seconds * self.delay_scale)

    async def close(self) -> None:
        """Close all connections."""
        await self.client.aclose()

    async def _send_with_key(
        self, method: str, url: str, content: RequestContent, *, paid: bool
    ) -> Response:
        self._require_own_host(url)
        send = functools.partial(self._send, self.client, method, url, content, paid=paid)
        return await retry(send, self.pause)

    async def _send(
        self,
        client: httpx2.AsyncClient,
        method: str,
        url: str,
        content: RequestContent,
        *,
        paid: bool,
    ) -> Response:
        try:
            with note_call(self.name, method) as call:
                async with (
                    asyncio.timeout(self.response_timeout_seconds),
                    client.stream(method, url, **content) as stream,
                ):
                    call.status = stream.status_code
                    response = await responses.read(stream, limit=self.max_response_bytes)
        except responses.ResponseTooLargeError as error:
            what = f"of more than {self.max_response_bytes} bytes"
            raise errors.invalid_response(self.name, what, paid=paid) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
            translated = errors.translate_transport(self.name, error, paid=paid)
            if isinstance(translated, EngineUnavailableError):
                raise RetryableError(translated, 0.0) from error
            raise translated from error
        if not stream.is_success:
            raise self._translate(response, keyed=client is self.client, paid=paid)
        return response

    def _translate(self, response: Response, *, keyed: bool, paid: bool) -> Exception:
        if keyed and self.translate_error and response.status < _SERVER_ERROR:
            specific = self.translate_error(response)
            if specific is not None:
                return specific
        if not keyed and response.status in _GONE:
            return EngineFailedError(
                f"the result at {self.name} is gone or its link has expired ({response.status})"
            )
        after, status = self.find_retry_after(response), response.status
        text = response.error_message(responses.find_secrets(self.client.headers))
        if status in self.content_filter_statuses:
            return ContentFilteredError(f"{self.name} refused the content: {text or status}")
        error = errors.translate_status(self.name, status, text, retry_after=after, paid=paid)
        repeatable = status in errors.NOT_STARTED or (not paid and errors.is_transient(status))
        if repeatable and not self.is_final(response):
            return RetryableError(error, after or 0.0)
        return error

    def _parse(self, response: Response, model: type[ModelT], *, paid: bool) -> ModelT:
        try:
            return model.model_validate_json(response.body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(map(str, first["loc"]))
            what = f"of an unknown shape ({field or 'it'}: {first['msg']})"
            invalid = errors.invalid_response(self.name, what, paid=paid)
        raise invalid  # not `from`: the validation error quotes the response

    def _require_own_host(self, url: str) -> None:
        try:
            target = self.client.base_url.join(url)
        except httpx2.InvalidURL as error:
            raise errors.translate_transport(self.name, error, paid=False) from error
        trusted = target.host == self.client.base_url.host or target.host.endswith(
            self.trusted_hosts
        )
        if not trusted:
            msg = f"{self.name} sent a URL on {target.host}, which must not receive the API key"
            raise EngineFailedError(msg)
        self._require_scheme(target)

    def _require_scheme(self, url: httpx2.URL) -> None:
        if url.scheme not in {"https", self.client.base_url.scheme}:
            msg = f"{self.name} sent a URL that is not https"
            raise EngineFailedError(msg)


def connect(
    base_url: str,
    *,
    headers: Mapping[str, str] | None = None,
    read_timeout_seconds: float = 30.0,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> httpx2.AsyncClient:
    """An HTTP client for one service; it connects with its first request. Every engine's client is made here.

    Args:
        base_url: URL that paths are relative to.
        headers: sent with every request, the API key among them.
        read_timeout_seconds: maximum silence of the service within a response.
        transport: what sends its requests; None for HTTP as usual.
    """
    return httpx2.AsyncClient(
        base_url=base_url,
        headers=dict(headers or {}),
        timeout=httpx2.Timeout(read_timeout_seconds, connect=_CONNECT_TIMEOUT_SECONDS),
        verify=ssl_context(),
        transport=transport,
    )
