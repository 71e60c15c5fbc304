"""The client of remote services, against a real server."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace

import httpx2
import pytest
import pytest_asyncio
from aiohttp import web
from pydantic import BaseModel

from atelier_engines.conformance.fake_server import (
    Handler,
    ResponseQueue,
    cut_short,
    drip,
    drop_connection,
    hang,
    respond,
    respond_bytes,
    serve,
)
from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUnavailableError,
    EngineUncertainError,
    InvalidTaskError,
)
from atelier_engines.vendors.client import VendorClient
from atelier_engines.vendors.responses import Response

KEY = "key-12345678"


class Fine(BaseModel):
    """The expected response."""

    fine: bool


@dataclass
class Service:
    """Responds {"fine": true} unless scripted otherwise, and records its requests."""

    url: str = ""
    line: ResponseQueue = field(default_factory=ResponseQueue)
    asked: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Handle every request."""
        self.asked.append(request)
        self.bodies.append(await request.read())
        failure = self.line.next_handler()
        return await failure(request) if failure else web.json_response({"fine": True})


@pytest.fixture
def service() -> Iterator[Service]:
    """The service, running."""
    made = Service()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", made.answer)
    with serve(app) as (made.url,):
        yield made


@pytest_asyncio.fixture
async def vendor(service: Service) -> AsyncIterator[VendorClient]:
    """A client of it, with short pauses."""
    timeout = httpx2.Timeout(0.3)
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx2.AsyncClient(base_url=service.url, headers=headers, timeout=timeout) as client:
        yield VendorClient(name="acme", client=client, delay_scale=0.001)


async def ask(vendor: VendorClient, *, paid: bool = False, url: str = "/x") -> Fine:
    """Send a free or a paid request."""
    if paid:
        return await vendor.submit_once("POST", url, model=Fine, json={"a": 1})
    return await vendor.request("GET", url, model=Fine)


BUSY = respond(429, {"error": "busy"})
PASSING = [BUSY, respond(500), respond(502, "<html>"), respond(504), respond(408)]
PASSING += [respond(599), drop_connection]


@pytest.mark.parametrize("failure", PASSING, ids=range(len(PASSING)))
async def test_a_free_request_is_retried_on_transient_errors(
    service: Service, vendor: VendorClient, failure: Handler
) -> None:
    """Up to four retries."""
    service.line.add(*[failure] * 4)
    assert (await ask(vendor)).fine
    assert len(service.asked) == 5


async def test_it_gives_up_after_five(service: Service, vendor: VendorClient) -> None:
    """It raises the last error."""
    service.line.always = respond(503, {"error": "down"})
    with pytest.raises(EngineUnavailableError, match="acme answered 503: down"):
        await ask(vendor)
    assert len(service.asked) == 5


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 410, 413, 415, 422, 451])
@pytest.mark.parametrize("paid", [False, True])
async def test_a_rejection_is_not_retried(
    service: Service, vendor: VendorClient, status: int, *, paid: bool
) -> None:
    """Another attempt would give the same response."""
    service.line.add(respond(status))
    with pytest.raises(EngineError):
        await ask(vendor, paid=paid)
    assert len(service.asked) == 1


async def test_a_service_may_have_errors_of_its_own(service: Service, vendor: VendorClient) -> None:
    """All other responses, and all server errors, are translated by their status."""

    def translate(response: Response) -> EngineError | None:
        return ContentFilteredError("unsafe") if response.status in {422, 500} else None

    vendor = replace(vendor, translate_error=translate)
    service.line.add(respond(422), respond(400), respond(500))
    for error in (ContentFilteredError, InvalidTaskError, EngineUncertainError):
        with pytest.raises(error):
            await ask(vendor, paid=True)


async def test_a_result_behind_the_key_is_fetched_with_it(
    service: Service, vendor: VendorClient
) -> None:
    """Only from the service's own host."""
    service.line.add(respond_bytes(b"png", "image/png"))
    assert (await vendor.fetch("/view/1")).data == b"png"
    assert service.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    with pytest.raises(EngineFailedError, match="must not receive the API key"):
        await vendor.fetch("https://evil.test/view/1")


@pytest.mark.parametrize("status", [409, 425, 429, 503])
async def test_a_paid_request_is_retried_when_the_service_started_nothing(
    service: Service, vendor: VendorClient, status: int
) -> None:
    """The status says so."""
    service.line.add(respond(status))
    assert (await ask(vendor, paid=True)).fine
    assert len(service.asked) == 2


AMBIGUOUS = [drop_connection, hang, cut_short(b'{"fine": true}' * 9, "application/json"), drip]
AMBIGUOUS += [respond(500), respond(502), respond(504), respond(520)]
AMBIGUOUS += [respond(200, "<html>"), respond(200, {"other": 1}), respond(200, "x" * 4096)]


@pytest.mark.parametrize("failure", AMBIGUOUS, ids=range(len(AMBIGUOUS)))
async def test_a_paid_request_that_may_have_been_accepted_is_never_sent_twice(
    service: Service, vendor: VendorClient, failure: Handler
) -> None:
    """The error does not allow another engine either."""
    service.line.always = failure
    vendor = replace(vendor, response_timeout_seconds=0.4, max_response_bytes=2048)
    with pytest.raises(EngineUncertainError) as error:
        await ask(vendor, paid=True)
    assert not error.value.repeatable
    assert len(service.asked) == 1


async def test_a_paid_request_without_a_connection_is_retried_and_then_unavailable() -> None:
    """No connection was made, so nothing was submitted."""
    async with httpx2.AsyncClient(base_url="http://127.0.0.1:1") as client:
        vendor = VendorClient(name="acme", client=client, delay_scale=0.001)
        with pytest.raises(EngineUnavailableError, match="acme cannot be reached"):
            await ask(vendor, paid=True)


async def test_a_long_retry_after_ends_the_retries(service: Service, vendor: VendorClient) -> None:
    """The error carries it to the caller."""
    service.line.add(respond(429, {}, Retry_After="600"))
    with pytest.raises(EngineUnavailableError) as error:
        await ask(vendor)
    assert error.value.retry_after_seconds == 600
    assert len(service.asked) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Impatient(VendorClient):
    """Records the pauses instead of waiting."""

    pauses: list[float] = field(default_factory=list)

    async def pause(self, seconds: float) -> None:
        """Record the pause."""
        self.pauses.append(seconds)


async def test_pauses_grow_and_are_never_shorter_than_retry_after(
    service: Service, vendor: VendorClient
) -> None:
    """Half to one and a half of 0.5, 1, 2, 4 seconds; never less than Retry-After says."""
    service.line.add(BUSY, BUSY, BUSY, respond(429, {}, Retry_After="7"))
    impatient = Impatient(name="acme", client=vendor.client)
    await ask(impatient)
    assert impatient.pauses[3] == 7.0
    for pause, middle in zip(impatient.pauses[:3], (0.5, 1.0, 2.0), strict=True):
        assert middle * 0.5 <= pause <= middle * 1.5


async def test_an_invalid_response_is_reported_by_field_without_its_content(
    service: Service, vendor: VendorClient
) -> None:
    """The content may be private."""
    service.line.add(respond(200, {"fine": "secret stuff"}))
    with pytest.raises(EngineFailedError, match="fine: ") as error:
        await ask(vendor)
    assert "secret" not in f"{error.value!r} {error.value.__cause__!r}"


async def test_a_response_that_never_ends_times_out(service: Service, vendor: VendorClient) -> None:
    """Each byte arrives in time, the end never."""
    service.line.always = drip
    with pytest.raises(EngineTimeoutError):
        await ask(replace(vendor, response_timeout_seconds=0.1))


async def test_a_cancelled_request_stays_cancelled(service: Service, vendor: VendorClient) -> None:
    """Cancellation is not translated to an error of the vendor."""
    service.line.always = hang
    asking = asyncio.create_task(ask(vendor, paid=True))
    while not service.asked:  # noqa: ASYNC110 (it is asked in another thread)
        await asyncio.sleep(0.005)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize("where", ["http://localhost:{port}/x", "https://evil.test/x"])
@pytest.mark.parametrize("paid", [False, True])
async def test_the_key_goes_to_no_other_host(
    service: Service, vendor: VendorClient, where: str, *, paid: bool
) -> None:
    """Not even when the service itself sent the URL."""
    url = where.format(port=service.url.rpartition(":")[2])
    with pytest.raises(EngineFailedError, match="must not receive the API key"):
        await ask(vendor, paid=paid, url=url)
    assert not service.asked


async def test_the_key_goes_to_trusted_hosts(service: Service, vendor: VendorClient) -> None:
    """They are configured by suffix."""
    url = service.url.replace("127.0.0.1", "localhost") + "/x"
    assert (await ask(replace(vendor, trusted_hosts=("ocalhost",)), url=url)).fine


async def test_an_invalid_url_is_refused(vendor: VendorClient) -> None:
    """As an error of the vendor, not an internal one."""
    with pytest.raises(EngineFailedError):
        await ask(vendor, url="http://[nonsense/")
    for url in ("ftp://x/y", "file:///etc/passwd", "data:image/png;base64,AA", "no-scheme", ""):
        with pytest.raises(EngineFailedError):
            await vendor.download(url)


async def test_an_api_key_that_the_vendor_repeats_is_masked(
    service: Service, vendor: VendorClient
) -> None:
    """As in 'Incorrect API key provided: …'."""
    service.line.add(respond(401, {"error": {"message": f"Incorrect key: {KEY}"}}))
    with pytest.raises(EngineUnavailableError, match="Incorrect key: …") as error:
        await ask(vendor)
    assert KEY not in str(error.value)


async def test_urls_are_not_logged(
    service: Service, vendor: VendorClient, caplog: pytest.LogCaptureFixture
) -> None:
    """URLs of results are signed: they allow the download."""
    caplog.set_level(logging.INFO)
    service.line.add(respond_bytes(b"png", "image/png"))
    await vendor.download(service.url + "/x?signature=secret")
    assert "secret" not in caplog.text


async def test_a_result_is_fetched_without_the_key(service: Service, vendor: VendorClient) -> None:
    """With its media type, byte for byte, after a redirect."""
    moved = respond(302, None, Location="/there")
    service.line.add(moved, respond_bytes(b"\x89PNG...", "image/png"))
    found = await vendor.download(service.url + "/x.png")
    assert (found.media_type, found.data) == ("image/png", b"\x89PNG...")
    assert service.asked[-1].path == "/there"
    assert all("Authorization" not in request.headers for request in service.asked)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_an_expired_result_link_is_reported_as_such(
    service: Service, vendor: VendorClient, status: int
) -> None:
    """The error does not suggest checking the key."""
    service.line.add(respond(status, "<Error>"))
    with pytest.raises(EngineFailedError, match="expired"):
        await vendor.download(service.url + "/x.png")
    assert len(service.asked) == 1


async def test_an_incomplete_download_is_retried(service: Service, vendor: VendorClient) -> None:
    """The whole file is downloaded again."""
    service.line.add(cut_short(b"png" * 999, "image/png"), respond_bytes(b"png" * 999, "image/png"))
    assert (await vendor.download(service.url + "/x.png")).data == b"png" * 999


async def without_length(request: web.Request) -> web.StreamResponse:
    """Two megabytes in chunks, without a content-length."""
    response = web.StreamResponse(headers={"content-type": "image/png"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    for _ in range(32):
        await response.write(b"x" * 2**16)
    return response


BOMB = gzip.compress(b"x" * 2**24)


async def bomb(_: web.Request) -> web.StreamResponse:
    """A small body that decompresses to a large one."""
    headers = {"content-encoding": "gzip"}
    return web.Response(body=BOMB, content_type="image/png", headers=headers)


@pytest.mark.parametrize(
    "large", [respond_bytes(b"x" * 2**21, "image/png"), without_length, bomb], ids=range(3)
)
async def test_a_result_above_the_size_limit_is_not_read_to_its_end(
    service: Service, vendor: VendorClient, large: Handler
) -> None:
    """Whether its size is announced, unknown or compressed; it is not downloaded again."""
    service.line.always = large
    with pytest.raises(EngineFailedError, match="more than 1048576 bytes"):
        await replace(vendor, max_response_bytes=2**20).download(service.url + "/x.png")
    assert len(service.asked) == 1


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
async def test_a_result_of_another_media_type_is_refused(
    service: Service, vendor: VendorClient, kind: str
) -> None:
    """An HTML page with an error is not an image."""
    service.line.add(respond_bytes(b"...", kind))
    with pytest.raises(EngineFailedError, match=kind):
        await vendor.download(service.url + "/x.png")


INSIDE = (
    *("127.0.0.1", "localhost", "169.254.169.254", "[::ffff:127.0.0.1]", "[::7f00:1]"),
    *("[64:ff9b::7f00:1]", "[2002:7f00:1::]", "224.0.0.1", "[ff02::1]"),
)
"""Here, a cloud's metadata, the same as parts of IPv6 addresses, which gateways translate, and groups of hosts."""


async def test_a_result_is_not_fetched_from_inside_this_network(service: Service) -> None:
    """Unless the service itself is there, as the others of these tests are: whichever name its address has."""
    async with httpx2.AsyncClient(base_url="http://1.1.1.1") as client:  # asked for nothing
        vendor = VendorClient(name="acme", client=client, delay_scale=0.001)
        port = service.url.rpartition(":")[2]
        for host in INSIDE:
            with pytest.raises(
                EngineFailedError, match="acme sent a URL whose address is not public"
            ):
                await vendor.download(f"http://{host}:{port}/x.png")
    assert not service.asked


async def test_results_are_downloaded_by_https_unless_the_base_url_is_http(
    service: Service,
) -> None:
    """Redirects included."""
    async with httpx2.AsyncClient(base_url="https://acme.test") as client:
        vendor = VendorClient(name="acme", client=client, delay_scale=0.001)
        with pytest.raises(EngineFailedError, match="not https"):
            await vendor.download(service.url + "/x.png")
    assert not service.asked
