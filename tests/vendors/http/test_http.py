"""The socket to remote services, against a real server."""

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
    """The answer that is hoped for."""

    fine: bool


@dataclass
class Service:
    """Answers {"fine": true} unless told otherwise, and keeps what it was sent."""

    url: str = ""
    line: ResponseQueue = field(default_factory=ResponseQueue)
    asked: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Whatever is asked."""
        self.asked.append(request)
        self.bodies.append(await request.read())
        trouble = self.line.next_handler()
        return await trouble(request) if trouble else web.json_response({"fine": True})


@pytest.fixture
def service() -> Iterator[Service]:
    """A running one."""
    made = Service()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", made.answer)
    with serve(app) as (made.url,):
        yield made


@pytest_asyncio.fixture
async def vendor(service: Service) -> AsyncIterator[VendorClient]:
    """Connected to it, with hardly a pause."""
    timeout = httpx2.Timeout(0.3)
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx2.AsyncClient(base_url=service.url, headers=headers, timeout=timeout) as client:
        yield VendorClient(name="acme", client=client, delay_scale=0.001)


async def ask(vendor: VendorClient, *, paid: bool = False, url: str = "/x") -> Fine:
    """A question, or an order."""
    if paid:
        return await vendor.submit_once("POST", url, model=Fine, json={"a": 1})
    return await vendor.request("GET", url, model=Fine)


BUSY = respond(429, {"error": "busy"})
PASSING = [BUSY, respond(500), respond(502, "<html>"), respond(504), respond(408)]
PASSING += [respond(599), drop_connection]


@pytest.mark.parametrize("trouble", PASSING, ids=range(len(PASSING)))
async def test_a_free_question_is_asked_again_while_that_may_help(
    service: Service, vendor: VendorClient, trouble: Handler
) -> None:
    """Up to four times."""
    service.line.add(*[trouble] * 4)
    assert (await ask(vendor)).fine
    assert len(service.asked) == 5


async def test_it_gives_up_after_five(service: Service, vendor: VendorClient) -> None:
    """With the last error."""
    service.line.always = respond(503, {"error": "down"})
    with pytest.raises(EngineUnavailableError, match="acme answered 503: down"):
        await ask(vendor)
    assert len(service.asked) == 5


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 410, 413, 415, 422, 451])
@pytest.mark.parametrize("paid", [False, True])
async def test_a_refusal_is_not_asked_again(
    service: Service, vendor: VendorClient, status: int, *, paid: bool
) -> None:
    """Nothing would be different."""
    service.line.add(respond(status))
    with pytest.raises(EngineError):
        await ask(vendor, paid=paid)
    assert len(service.asked) == 1


async def test_a_service_may_word_its_own_refusals(service: Service, vendor: VendorClient) -> None:
    """What it leaves open, and every fault of the server, is left to the table."""

    def refusal(answer: Response) -> EngineError | None:
        return ContentFilteredError("unsafe") if answer.status in {422, 500} else None

    vendor = replace(vendor, translate_error=refusal)
    service.line.add(respond(422), respond(400), respond(500))
    for error in (ContentFilteredError, InvalidTaskError, EngineUncertainError):
        with pytest.raises(error):
            await ask(vendor, paid=True)


async def test_a_result_behind_the_key_is_fetched_with_it(
    service: Service, vendor: VendorClient
) -> None:
    """From the service's own host alone."""
    service.line.add(respond_bytes(b"png", "image/png"))
    assert (await vendor.fetch("/view/1")).data == b"png"
    assert service.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    with pytest.raises(EngineFailedError, match="must not receive the API key"):
        await vendor.fetch("https://evil.test/view/1")


@pytest.mark.parametrize("status", [409, 425, 429, 503])
async def test_an_order_is_repeated_when_the_service_took_nothing_on(
    service: Service, vendor: VendorClient, status: int
) -> None:
    """It said so itself."""
    service.line.add(respond(status))
    assert (await ask(vendor, paid=True)).fine
    assert len(service.asked) == 2


AMBIGUOUS = [drop_connection, hang, cut_short(b'{"fine": true}' * 9, "application/json"), drip]
AMBIGUOUS += [respond(500), respond(502), respond(504), respond(520)]
AMBIGUOUS += [respond(200, "<html>"), respond(200, {"other": 1}), respond(200, "x" * 4096)]


@pytest.mark.parametrize("trouble", AMBIGUOUS, ids=range(len(AMBIGUOUS)))
async def test_an_order_that_may_have_been_accepted_is_never_sent_twice(
    service: Service, vendor: VendorClient, trouble: Handler
) -> None:
    """Nor may another engine be tried."""
    service.line.always = trouble
    vendor = replace(vendor, response_timeout_seconds=0.4, max_response_bytes=2048)
    with pytest.raises(EngineUncertainError) as error:
        await ask(vendor, paid=True)
    assert not error.value.repeatable
    assert len(service.asked) == 1


async def test_an_order_to_nobody_is_repeated_and_then_unavailable() -> None:
    """No connection was made, so nothing was ordered."""
    async with httpx2.AsyncClient(base_url="http://127.0.0.1:1") as client:
        vendor = VendorClient(name="acme", client=client, delay_scale=0.001)
        with pytest.raises(EngineUnavailableError, match="acme cannot be reached"):
            await ask(vendor, paid=True)


async def test_a_service_that_wants_long_rest_is_left_alone(
    service: Service, vendor: VendorClient
) -> None:
    """The caller learns for how long."""
    service.line.add(respond(429, {}, Retry_After="600"))
    with pytest.raises(EngineUnavailableError) as error:
        await ask(vendor)
    assert error.value.retry_after_seconds == 600
    assert len(service.asked) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Impatient(VendorClient):
    """Keeps account of the pauses instead of waiting."""

    pauses: list[float] = field(default_factory=list)

    async def pause(self, seconds: float) -> None:
        """Note it."""
        self.pauses.append(seconds)


async def test_pauses_grow_and_are_never_shorter_than_the_service_wants(
    service: Service, vendor: VendorClient
) -> None:
    """Half to one and a half of 0.5, 1, 2, 4 seconds; never less than Retry-After says."""
    service.line.add(BUSY, BUSY, BUSY, respond(429, {}, Retry_After="7"))
    impatient = Impatient(name="acme", client=vendor.client)
    await ask(impatient)
    assert impatient.pauses[3] == 7.0
    for pause, middle in zip(impatient.pauses[:3], (0.5, 1.0, 2.0), strict=True):
        assert middle * 0.5 <= pause <= middle * 1.5


async def test_an_answer_of_another_shape_says_where_it_is_wrong_but_not_what_it_holds(
    service: Service, vendor: VendorClient
) -> None:
    """It may hold anything."""
    service.line.add(respond(200, {"fine": "secret stuff"}))
    with pytest.raises(EngineFailedError, match="fine: ") as error:
        await ask(vendor)
    assert "secret" not in f"{error.value!r} {error.value.__cause__!r}"


async def test_a_slow_drip_ends_with_patience(service: Service, vendor: VendorClient) -> None:
    """Each byte comes in time, the whole never."""
    service.line.always = drip
    with pytest.raises(EngineTimeoutError):
        await ask(replace(vendor, response_timeout_seconds=0.1))


async def test_a_cancelled_question_stays_cancelled(service: Service, vendor: VendorClient) -> None:
    """It is not taken for a fault of the vendor."""
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
    """Even when the service itself names the address."""
    url = where.format(port=service.url.rpartition(":")[2])
    with pytest.raises(EngineFailedError, match="must not receive the API key"):
        await ask(vendor, paid=paid, url=url)
    assert not service.asked


async def test_the_key_goes_to_hosts_that_were_named(
    service: Service, vendor: VendorClient
) -> None:
    """By the end of their names."""
    url = service.url.replace("127.0.0.1", "localhost") + "/x"
    assert (await ask(replace(vendor, trusted_hosts=("ocalhost",)), url=url)).fine


async def test_an_address_that_is_none_is_refused(vendor: VendorClient) -> None:
    """As a fault of the vendor, not as one of ours."""
    with pytest.raises(EngineFailedError):
        await ask(vendor, url="http://[nonsense/")
    for url in ("ftp://x/y", "file:///etc/passwd", "data:image/png;base64,AA", "no-scheme", ""):
        with pytest.raises(EngineFailedError):
            await vendor.download(url)


async def test_a_key_that_is_repeated_by_the_vendor_stays_out_of_the_message(
    service: Service, vendor: VendorClient
) -> None:
    """As in 'Incorrect API key provided: …'."""
    service.line.add(respond(401, {"error": {"message": f"Incorrect key: {KEY}"}}))
    with pytest.raises(EngineUnavailableError, match="Incorrect key: …") as error:
        await ask(vendor)
    assert KEY not in str(error.value)


async def test_addresses_are_not_logged(
    service: Service, vendor: VendorClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Links to results are signed: whoever has them has the result."""
    caplog.set_level(logging.INFO)
    service.line.add(respond_bytes(b"png", "image/png"))
    await vendor.download(service.url + "/x?signature=secret")
    assert "secret" not in caplog.text


async def test_a_result_is_fetched_without_the_key(service: Service, vendor: VendorClient) -> None:
    """With its type, byte for byte, over a redirect."""
    moved = respond(302, None, Location="/there")
    service.line.add(moved, respond_bytes(b"\x89PNG...", "image/png"))
    found = await vendor.download(service.url + "/x.png")
    assert (found.media_type, found.data) == ("image/png", b"\x89PNG...")
    assert service.asked[-1].path == "/there"
    assert all("Authorization" not in request.headers for request in service.asked)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_a_result_whose_link_has_expired_is_gone(
    service: Service, vendor: VendorClient, status: int
) -> None:
    """The key is not to blame."""
    service.line.add(respond(status, "<Error>"))
    with pytest.raises(EngineFailedError, match="expired"):
        await vendor.download(service.url + "/x.png")
    assert len(service.asked) == 1


async def test_a_result_that_breaks_off_is_fetched_again(
    service: Service, vendor: VendorClient
) -> None:
    """From the beginning."""
    service.line.add(cut_short(b"png" * 999, "image/png"), respond_bytes(b"png" * 999, "image/png"))
    assert (await vendor.download(service.url + "/x.png")).data == b"png" * 999


async def without_length(request: web.Request) -> web.StreamResponse:
    """Two megabytes in chunks, without saying so first."""
    response = web.StreamResponse(headers={"content-type": "image/png"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    for _ in range(32):
        await response.write(b"x" * 2**16)
    return response


async def bomb(_: web.Request) -> web.StreamResponse:
    """Little that unpacks to much."""
    body = gzip.compress(b"x" * 2**24)
    headers = {"content-encoding": "gzip"}
    return web.Response(body=body, content_type="image/png", headers=headers)


@pytest.mark.parametrize(
    "large", [respond_bytes(b"x" * 2**21, "image/png"), without_length, bomb], ids=range(3)
)
async def test_a_result_beyond_the_limit_is_not_read_to_its_end(
    service: Service, vendor: VendorClient, large: Handler
) -> None:
    """Whether its size is announced, unknown or packed; it is not fetched again."""
    service.line.always = large
    with pytest.raises(EngineFailedError, match="more than 1048576 bytes"):
        await replace(vendor, max_response_bytes=2**20).download(service.url + "/x.png")
    assert len(service.asked) == 1


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
async def test_a_result_of_another_kind_is_none(
    service: Service, vendor: VendorClient, kind: str
) -> None:
    """A page that explains an error is no picture."""
    service.line.add(respond_bytes(b"...", kind))
    with pytest.raises(EngineFailedError, match=kind):
        await vendor.download(service.url + "/x.png")


async def test_results_come_by_https_unless_the_service_itself_does_not(service: Service) -> None:
    """Also after a redirect."""
    async with httpx2.AsyncClient(base_url="https://acme.test") as client:
        vendor = VendorClient(name="acme", client=client, delay_scale=0.001)
        with pytest.raises(EngineFailedError, match="not https"):
            await vendor.download(service.url + "/x.png")
    assert not service.asked
