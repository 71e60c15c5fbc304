"""Every status code has an error, and its details arrive at the caller."""

from __future__ import annotations

import inspect

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc import aio

from atelier.v1 import generation_pb2
from atelier_client import errors
from atelier_client.cli import exit_codes
from atelier_client.errors import AtelierError
from atelier_client.status import CODES, REASONS
from tests.client.conftest import MakeCaller
from tests.client.fake_server import FINISHED, FakeServer, info, status

ERRORS = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, AtelierError)
]
Served = tuple[FakeServer, str]


def test_every_status_code_has_an_error() -> None:
    """A status code that gRPC adds fails here, not in production."""
    assert set(CODES) == set(grpc.StatusCode) - {grpc.StatusCode.OK}


def test_the_docstring_lists_every_error() -> None:
    """The tree in the docstring is complete."""
    assert inspect.getdoc(errors) is not None
    drawn = {word for word in (errors.__doc__ or "").split() if word.endswith("Error")}
    assert drawn == {kind.__name__ for kind in ERRORS}


def test_every_error_has_an_exit_code() -> None:
    """Every error has an exit code of its own kind."""
    assert set(exit_codes._CODES) == set(ERRORS) - {AtelierError}


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
async def test_a_status_arrives_as_its_error(
    code: grpc.StatusCode, calling: MakeCaller, fake_server: Served
) -> None:
    """Each status code becomes its error, with the message and the reason of the server."""
    service, address = fake_server
    service.refusals = [status(code, "what to change", info("SOME_REASON"))] * 5
    async with calling(address) as caller:
        with pytest.raises(CODES[code], match="what to change") as raised:
            await caller.call("get", "g1")
    assert type(raised.value) is CODES[code]
    assert raised.value.reason == "SOME_REASON"
    assert isinstance(raised.value.__cause__, grpc.RpcError)


@pytest.mark.parametrize("reason", REASONS)
async def test_a_reason_is_more_exact_than_its_code(
    reason: str, calling: MakeCaller, fake_server: Served
) -> None:
    """Reasons that share a code have errors of their own."""
    service, address = fake_server
    service.refusals = [status(grpc.StatusCode.FAILED_PRECONDITION, "no", info(reason))]
    async with calling(address) as caller:
        with pytest.raises(REASONS[reason]):
            await caller.call("generate", "a lamp")


async def test_violations_name_the_fields(calling: MakeCaller, fake_server: Served) -> None:
    """An invalid request names the field and the reason."""
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="image.width", description="at least 16")
    service, address = fake_server
    service.refusals = [status(grpc.StatusCode.INVALID_ARGUMENT, "no", bad, info("BAD"))]
    async with calling(address) as caller:
        with pytest.raises(errors.InvalidRequestError) as raised:
            await caller.call("plan", "a lamp", width=1)
    assert raised.value.violations == (
        errors.Violation(field="image.width", message="at least 16"),
    )


async def test_unavailable_says_when_to_try_again(calling: MakeCaller, fake_server: Served) -> None:
    """RetryInfo reaches the caller once the retries are used up."""
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    service, address = fake_server
    full = status(grpc.StatusCode.UNAVAILABLE, "the queue is full", info("QUEUE_FULL"), retry)
    service.refusals = [full] * 5
    async with calling(address) as caller:
        with pytest.raises(errors.UnavailableError) as raised:
            await caller.call("submit", "a lamp")
    assert type(raised.value) is errors.UnavailableError
    assert raised.value.retry_after_seconds == 1.5


@pytest.mark.parametrize("code", ["UNAVAILABLE", "UNKNOWN", "INTERNAL", "CANCELLED"])
async def test_a_status_that_is_not_the_servers_is_a_lost_connection(
    code: str, calling: MakeCaller, fake_server: Served
) -> None:
    """What a proxy or gRPC's library says never means that the generation failed or was cancelled."""
    service, address = fake_server
    service.refusals = [grpc.StatusCode[code]] * 5
    async with calling(address) as caller:
        with pytest.raises(errors.ServerUnreachableError, match="cannot reach the server"):
            await caller.call("get", "g1")


@pytest.mark.parametrize("code", ["UNAVAILABLE", "CANCELLED"])
async def test_a_restart_is_not_noticed(
    code: str, calling: MakeCaller, fake_server: Served
) -> None:
    """A call that found no server, or one that stops, is repeated under the same request id."""
    service, address = fake_server
    service.refusals = [grpc.StatusCode[code]] * 2
    async with calling(address) as caller:
        generation = await caller.call("submit", "a lamp")
    assert generation.id == "g1"
    asked = [getattr(request, "request_id", "") for request in service.requests]
    assert len(asked) == 3
    assert asked[0]
    assert len(set(asked)) == 1


async def test_a_server_that_lacks_the_call_is_named(calling: MakeCaller) -> None:
    """Its own words ("Method not found!") say nothing to a user."""
    other = aio.server()
    port = other.add_insecure_port("127.0.0.1:0")
    await other.start()
    async with calling(f"127.0.0.1:{port}") as caller:
        with pytest.raises(errors.UnsupportedError, match="older than this client, or"):
            await caller.call("pause", "tiny")
    await other.stop(None)


async def test_a_closed_port_is_unreachable(calling: MakeCaller) -> None:
    """A closed port differs from a server that rejects the call."""
    async with calling("127.0.0.1:1") as caller:
        with pytest.raises(errors.ServerUnreachableError, match="cannot reach the server"):
            await caller.call("health")


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (13, "ENGINE_FAILED", errors.GenerationFailedError),
        (2, "WHO_KNOWS", errors.GenerationFailedError),
        (9, "CONTENT_FILTERED", errors.ContentFilteredError),
        (8, "OUT_OF_MEMORY", errors.OutOfMemoryError),
        (4, "TIMEOUT", errors.DeadlineError),
        (14, "ENGINE_UNAVAILABLE", errors.UnavailableError),
        (999, "", errors.GenerationFailedError),
    ],
)
async def test_a_failed_generation_raises_its_failure(
    code: int, reason: str, kind: type[AtelierError], calling: MakeCaller, fake_server: Served
) -> None:
    """A generation that ended badly raises, and the error names it."""
    service, address = fake_server
    service.finished = generation_pb2.Generation(
        id="g1",
        state=generation_pb2.STATE_FAILED,
        failure=generation_pb2.Failure(reason=reason, code=code, message="it broke"),
    )
    async with calling(address) as caller:
        with pytest.raises(kind, match="it broke") as raised:
            await caller.call("generate", "a lamp")
    assert (raised.value.reason, raised.value.generation_id) == (reason, "g1")


async def test_a_cancelled_generation_raises(calling: MakeCaller, fake_server: Served) -> None:
    """A generation that another caller cancelled raises."""
    service, address = fake_server
    service.finished = generation_pb2.Generation(
        id="g1",
        state=generation_pb2.STATE_CANCELLED,
        cancel_outcome=generation_pb2.CANCEL_OUTCOME_STOPPED,
    )
    async with calling(address) as caller:
        with pytest.raises(errors.GenerationCancelledError, match="stopped"):
            await caller.call("generate", "a lamp")


async def test_large_outputs_are_fetched(calling: MakeCaller, fake_server: Served) -> None:
    """An output that did not come inline is downloaded before generate returns."""
    _, address = fake_server
    async with calling(address) as caller:
        generation = await caller.call("generate", "a lamp")
    assert generation.id == FINISHED.id
    assert generation.images[0].data.startswith(b"\x89PNG")
