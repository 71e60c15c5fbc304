"""The HTTP port: every call over Connect and gRPC-Web answers as over gRPC, and ends when its caller leaves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from connectrpc.errors import ConnectError
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from atelier.v1 import artifact_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import CancelCause, State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import RunningServer, free_port, launch
from tests.server.calls import Stub, eventually, image_request, on_acceptance
from tests.server.http_calls import (
    PROTOCOLS,
    WebClient,
    address_of,
    code_of,
    connect,
    envelope,
    write_request,
)
from tests.server.test_metrics import key, samples

HANG = {"image": {"prompt": "x", "width": 64, "height": 64}, "options": {"hang": True}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that answers over HTTP, too."""
    folder = tmp_path_factory.mktemp("http")
    engine = {"type": "sketch", "concurrency": 4, "breaker": {"failure_threshold": 1000}}
    running = launch(
        folder,
        http=f"127.0.0.1:{free_port()}",
        http_origins=["https://studio.example"],
        engines={"sketch": engine},
    )
    yield running
    running.kill()


@pytest.fixture(params=PROTOCOLS)
async def web(server: RunningServer, request: pytest.FixtureRequest) -> AsyncIterator[WebClient]:
    """A client of each protocol."""
    async with WebClient(address_of(server), request.param) as client:
        yield client


async def test_pictures_and_records_are_those_of_grpc(web: WebClient, stub: Stub) -> None:
    """With the bytes of outputs inline; the same request id finds the same generation."""
    wanted = image_request(inline_outputs=True, request_id=f"one-{web.protocol.replace(' ', '-')}")
    made = (await web.call("Generate", wanted)).generation
    same = (await stub.Generate(wanted)).generation
    assert made == same
    assert hashlib.sha256(made.outputs[0].data).hexdigest() == made.outputs[0].artifact.sha256
    found = await web.call("GetGeneration", pb.GetGenerationRequest(generation_id=made.id))
    assert found.generation.id == made.id
    listed = await web.call("ListGenerations", pb.ListGenerationsRequest(page_size=100))
    assert made.id in {generation.id for generation in listed.generations}


async def test_calls_that_ask_answer(web: WebClient) -> None:
    """Health, capabilities and plans."""
    assert (await web.call("Health", pb.HealthRequest())).accepts_generations
    capabilities = await web.call("GetCapabilities", pb.GetCapabilitiesRequest())
    assert [engine.name for engine in capabilities.engines] == ["sketch"]
    plan = pb.PlanGenerationRequest(generate=image_request())
    assert (await web.call("PlanGeneration", plan)).accepted


async def test_events_are_those_of_grpc(web: WebClient, stub: Stub) -> None:
    """From the first to the last, and again from any of them."""
    request = pb.StreamProgressRequest(generate=image_request(), inline_outputs=True)
    events = [event async for event in web.stream("StreamProgress", request)]
    assert events[-1].state == State.STATE_SUCCEEDED
    assert events[-1].generation.outputs[0].data
    again = pb.StreamProgressRequest(
        generation_id=events[0].generation_id, after_sequence=2, inline_outputs=True
    )
    later = [event async for event in web.stream("StreamProgress", again)]
    assert later == [event async for event in stub.StreamProgress(again)]
    assert [event.sequence for event in later] == [event.sequence for event in events[2:]]


async def test_files_go_both_ways(web: WebClient) -> None:
    """20 MB in chunks, up and down."""
    content = hashlib.shake_128(web.protocol.encode()).digest(20_000_000)
    header = artifact_pb2.UploadHeader(
        media_type="image/png", sha256=hashlib.sha256(content).hexdigest()
    )
    chunks = [content[start : start + 2**19] for start in range(0, len(content), 2**19)]
    artifact = (
        await web.upload(
            [
                pb.UploadArtifactRequest(header=header),
                *(pb.UploadArtifactRequest(chunk=chunk) for chunk in chunks),
            ]
        )
    ).artifact
    wanted = pb.DownloadArtifactRequest(artifact_id=artifact.id, offset=1)
    parts = [part async for part in web.stream("DownloadArtifact", wanted)]
    assert parts[0].artifact == artifact
    assert b"".join(part.chunk for part in parts) == content[1:]


async def test_queues_are_acted_on(web: WebClient) -> None:
    """Pause, resume, clear, cancel."""
    paused = await web.call("PauseEngine", pb.PauseEngineRequest(engine="sketch", reason="a test"))
    assert paused.pause.reason == "a test"
    waiting = await web.call("Generate", on_acceptance(image_request()))
    cleared = await web.call("ClearQueue", pb.ClearQueueRequest(engine="sketch"))
    assert cleared.cancelled == 1
    resumed = await web.call("ResumeEngine", pb.ResumeEngineRequest(engine="sketch"))
    assert resumed.was_paused
    request = pb.CancelGenerationRequest(generation_id=waiting.generation.id)
    cancelled = await web.call("CancelGeneration", request)
    assert cancelled.generation.state == State.STATE_CANCELLED


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("Generate", image_request(task={"width": 8})),
        ("Generate", image_request(engine="sketsch")),
        ("Generate", image_request("another", request_id="taken")),
        ("Generate", image_request(options={"fail": True})),
        ("GetGeneration", pb.GetGenerationRequest(generation_id="0" * 26)),
        ("StreamProgress", pb.StreamProgressRequest(generation_id="0" * 26)),
        ("DownloadArtifact", pb.DownloadArtifactRequest(artifact_id="x")),
    ],
    ids=["field", "engine", "taken", "failed", "generation", "events", "artifact"],
)
async def test_errors_are_those_of_grpc(
    web: WebClient, stub: Stub, method: str, request_: Message
) -> None:
    """Code, words, google.rpc details and the time after which to try again."""
    await stub.Generate(image_request("one", request_id="taken"))
    with pytest.raises(aio.AioRpcError) as over_grpc:
        await read_all(getattr(stub, method)(request_))
    call = web.stream if method in {"StreamProgress", "DownloadArtifact"} else web.call
    with pytest.raises(ConnectError) as over_http:
        await read_all(call(method, request_))
    assert code_of(over_http.value) is over_grpc.value.code()
    assert comparable(over_http.value.message) == comparable(over_grpc.value.details() or "")
    trailers = dict(over_grpc.value.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    told = [f"type.googleapis.com/{one.type_name}" for one in over_http.value.details]
    assert told == [detail.type_url for detail in status.details]
    assert info_of(over_http.value).reason == unpack(status.details[0].value).reason


async def read_all(call: Any) -> None:  # noqa: ANN401 (one answer or a stream of them)
    """Take every answer."""
    if hasattr(call, "__aiter__"):
        async for _ in call:
            pass
    else:
        await call


def unpack(value: bytes) -> error_details_pb2.ErrorInfo:
    """The detail that every error has."""
    return error_details_pb2.ErrorInfo.FromString(value)


def info_of(error: ConnectError) -> error_details_pb2.ErrorInfo:
    """The same of a client's error."""
    return unpack(error.details[0].message_bytes)


def comparable(message: str) -> str:
    """The words, without names that are new in every call."""
    return message.partition(" 01")[0]


async def test_a_deadline_ends_the_call_with_its_generation_named(
    server: RunningServer, web: WebClient
) -> None:
    """DEADLINE_EXCEEDED, also in the metrics; the generation is stopped."""
    counted = key(
        "grpc_server_handled_total", grpc_method="Generate", grpc_code="DEADLINE_EXCEEDED"
    )
    before = total(server, counted)
    with pytest.raises(ConnectError) as caught:
        await web.call("Generate", image_request(options={"hang": True}), timeout_ms=500)
    assert code_of(caught.value).name == "DEADLINE_EXCEEDED"
    await eventually(lambda: total(server, counted) > before)


def total(server: RunningServer, wanted: tuple[str, frozenset[tuple[str, str]]]) -> float:
    """Sum of the samples of that name with at least those labels."""
    name, labels = wanted
    found = samples(server).items()
    return sum(value for (other, given), value in found if other == name and labels <= given)


PIPELINED = write_request("Health", b"{}") + write_request("Health", b" " * 2**20)


@pytest.mark.parametrize("behind", [b"", PIPELINED], ids=["alone", "pipelined"])
@pytest.mark.parametrize("method", ["Generate", "StreamProgress"])
async def test_a_dropped_connection_stops_the_work(
    server: RunningServer, stub: Stub, method: str, behind: bytes
) -> None:
    """As a lost call of gRPC does; the record says why. Also with further requests behind it."""
    request_id = f"dropped-{method}-{len(behind)}"
    body: dict[str, Any] = {**HANG, "requestId": request_id}
    request = write_request("Generate", json.dumps(body).encode())
    if method == "StreamProgress":
        framed = envelope(json.dumps({"generate": body}).encode())
        request = write_request(method, framed, "application/connect+json")
    request = request.replace(b"Connection: close\r\n", b"")
    with connect(address_of(server)) as connection:
        connection.sendall(request + behind)
        while (found := await find(stub, request_id)) is None or found.state != State.STATE_RUNNING:
            pass
    while found is None or found.state != State.STATE_CANCELLED:
        found = await find(stub, request_id)
    assert found.cancel_cause == CancelCause.CANCEL_CAUSE_CALLERS_LOST


def test_a_pipelined_request_is_left_to_be_sent_again(server: RunningServer) -> None:
    """The answer before it says that the connection closes, and is whole."""
    first = write_request("Generate", b'{"image":{"prompt":"x","width":64,"height":64}}')
    first = first.replace(b"Connection: close\r\n", b"")
    with connect(address_of(server)) as connection:
        connection.sendall(first + PIPELINED)
        told = b"".join(iter(lambda: connection.recv(2**16), b""))
    assert told.count(b"HTTP/1.1 ") == 1
    assert told.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in told
    assert told.endswith(b"\r\n0\r\n\r\n")


def test_proxies_are_told_to_keep_no_events(server: RunningServer) -> None:
    """Nginx would hold them until it has some thousand bytes, and so show no progress."""
    body = b'{"generate":{"image":{"prompt":"x","width":64,"height":64}}}'
    with connect(address_of(server)) as connection:
        connection.sendall(
            write_request("StreamProgress", envelope(body), "application/connect+json")
        )
        told = b"".join(iter(lambda: connection.recv(2**16), b""))
    assert b"\r\nx-accel-buffering: no\r\n" in told


async def find(stub: Stub, request_id: str) -> Any:  # noqa: ANN401 (a generation or None)
    """The generation of that request; None if there is none yet."""
    listed = await stub.ListGenerations(pb.ListGenerationsRequest(page_size=100))
    return next((one for one in listed.generations if one.request_id == request_id), None)


async def test_a_generation_goes_on_for_those_who_still_follow_it(
    server: RunningServer, web: WebClient
) -> None:
    """Two follow one generation, one over gRPC; both see the end."""
    request = image_request(options={"delay_seconds": 0.3})
    made = (await web.call("Generate", on_acceptance(request))).generation
    attach = pb.StreamProgressRequest(generation_id=made.id)
    async with aio.insecure_channel(server.address) as channel:
        over_grpc = GenerationServiceStub(channel).StreamProgress(attach)
        events = [event async for event in web.stream("StreamProgress", attach)]
        assert events == [event async for event in over_grpc]
    assert events[-1].state == State.STATE_SUCCEEDED


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("evil.example:80", 421), ("[::1", 421), ("[x]", 421)),
        *(("localhost:80", 200), ("[::1]:80", 200), ("studio.example", 200)),
    ],
)
def test_a_page_whose_name_points_here_is_refused(
    server: RunningServer, host: str, status: int
) -> None:
    """Without keys, at an address of this machine: what a browser asks under another name is another page's."""
    request = write_request("Health", b"{}").replace(b"localhost", host.encode())
    with connect(address_of(server)) as connection:
        connection.sendall(request)
        assert connection.recv(12) == b"HTTP/1.1 %d" % status
