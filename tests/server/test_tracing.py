"""Traces that reach a receiver of OpenTelemetry's protocol: one for each generation, whoever began it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from grpc import aio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_server.tracing.trace_context import find_trace
from tests.conftest import RunningServer, StartServer
from tests.server.calls import Stub, eventually, image_request, on_acceptance, refusal

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BAGGAGE = "a-secret-in-the-baggage"


@dataclass(slots=True)
class Receiver:
    """Takes what exporters send."""

    address: str = ""
    bodies: list[bytes] = field(default_factory=list)

    @property
    def spans(self) -> Sequence[Span]:
        """Every span that has come."""
        return [
            span
            for body in self.bodies
            for group in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]

    def by_name(self) -> Mapping[str, Span]:
        """The spans by their names; of a stage that repeats, one of them."""
        return {span.name: span for span in self.spans}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of OTLP over HTTP."""
    received = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            body = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        received.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield received
        server.shutdown()
        thread.join()


def variables(receiver: Receiver, **others: str) -> Mapping[str, str]:
    """The environment in which traces go to the receiver, without compression."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.address, **others}


async def generate(server: RunningServer, *metadata: tuple[str, str]) -> str:
    """The id of a generation that has ended."""
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        answer = await stub.Generate(image_request(), metadata=metadata)
        return answer.generation.id


async def test_a_generation_is_one_trace_of_its_caller(
    start_server: StartServer, receiver: Receiver
) -> None:
    """From the call to the record of the end: each span lies in its parent; baggage goes nowhere."""
    server = start_server(environment=variables(receiver))
    generation_id = await generate(server, ("traceparent", CALLER), ("baggage", f"key={BAGGAGE}"))
    assert await asyncio.to_thread(server.terminate) == 0
    spans = receiver.by_name()
    call = spans["atelier.v1.GenerationService/Generate"]
    whole, attempt = spans["generation"], spans["attempt 1"]
    assert {span.trace_id.hex() for span in spans.values()} == {CALLER.split("-")[1]}
    caller = bytes.fromhex(CALLER.split("-")[2])
    assert call.parent_span_id == whole.parent_span_id == caller
    assert attempt.parent_span_id == spans["queue"].parent_span_id == whole.span_id
    for name in ("prepare", "draw", "encode", "record"):
        assert spans[name].parent_span_id == attempt.span_id
        assert attempt.start_time_unix_nano <= spans[name].start_time_unix_nano
        assert spans[name].end_time_unix_nano <= attempt.end_time_unix_nano
    assert spans["queue"].end_time_unix_nano == attempt.start_time_unix_nano
    assert whole.start_time_unix_nano == spans["queue"].start_time_unix_nano
    attributes = {each.key: each.value.string_value for each in whole.attributes}
    assert attributes["atelier.generation"] == generation_id
    assert attributes["atelier.state"] == "succeeded"
    assert BAGGAGE.encode() not in b"".join(receiver.bodies)
    lines = [line for line in server.log_lines() if line.get("generation") == generation_id]
    assert lines
    assert {line["trace"] for line in lines} == {CALLER.split("-")[1]}


async def test_a_generation_of_a_caller_without_trace_has_one_of_its_own(
    start_server: StartServer, receiver: Receiver
) -> None:
    """Its number is that of the generation's id, which the lines of the log have, too."""
    server = start_server(environment=variables(receiver))
    generation_id = await generate(server)
    assert await asyncio.to_thread(server.terminate) == 0
    trace = find_trace({}, generation_id)
    spans = receiver.by_name()
    assert {span.trace_id.hex() for span in spans.values()} == {trace.text}
    assert spans["generation"].parent_span_id == b""
    lines = [line for line in server.log_lines() if line.get("generation") == generation_id]
    assert {line["trace"] for line in lines} == {trace.text}


async def test_failures_have_their_reason(start_server: StartServer, receiver: Receiver) -> None:
    """In the spans of the attempt, of the generation and of the call."""
    engines = {"sketch": {"type": "sketch", "fail_rate": 1}}
    server = start_server(environment=variables(receiver), engines=engines)
    async with aio.insecure_channel(server.address) as channel:
        refused = await refusal(GenerationServiceStub(channel).Generate(image_request()))
    assert await asyncio.to_thread(server.terminate) == 0
    spans = receiver.by_name()
    for name in ("generation", "attempt 1"):
        assert spans[name].status.code == Status.STATUS_CODE_ERROR
        assert spans[name].status.message == refused.reason
    assert spans["atelier.v1.GenerationService/Generate"].status.message == refused.code.name


async def test_attempts_of_two_processes_are_in_one_trace(
    start_server: StartServer, receiver: Receiver
) -> None:
    """The first is released at a drain, the second ends the generation."""
    slow = {"sketch": {"type": "sketch", "delay_seconds": 60}}
    server = start_server(environment=variables(receiver), engines=slow, drain_seconds=0)
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        accepted = (await stub.Generate(on_acceptance(image_request()))).generation.id
        await eventually(
            lambda: any(line["event"] == "generation_started" for line in server.log_lines())
        )
    assert await asyncio.to_thread(server.terminate) == 0
    again = start_server(environment=variables(receiver))
    async with aio.insecure_channel(again.address) as channel:
        request = pb.StreamProgressRequest(generation_id=accepted)
        call = GenerationServiceStub(channel).StreamProgress(request)
        async for _ in call:
            pass
    assert await asyncio.to_thread(again.terminate) == 0
    traces = {span.name: span.trace_id.hex() for span in receiver.spans}
    trace = find_trace({}, accepted).text
    assert (traces["attempt 1"], traces["attempt 2"], traces["generation"]) == (trace,) * 3


@pytest.mark.parametrize(
    "settings",
    [
        {"OTEL_TRACES_SAMPLER": "always_off"},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_SDK_DISABLED": "true"},
    ],
)
async def test_standard_variables_turn_traces_off(
    start_server: StartServer, receiver: Receiver, settings: Mapping[str, str]
) -> None:
    """Nothing is sent."""
    server = start_server(environment=variables(receiver, **settings))
    await generate(server)
    assert await asyncio.to_thread(server.terminate) == 0
    assert receiver.spans == []


@pytest.mark.parametrize(
    "header",
    ["", "00", CALLER[:-1], CALLER.replace("0af7", "0AF7"), f"00-{'0' * 32}-b7ad6b7169203331-01"],
)
def test_a_malformed_trace_context_is_ignored(header: str) -> None:
    """The generation then has a trace of its own, with the number of its id."""
    trace = find_trace({"traceparent": header}, "01jdq3x5z8m6k7n9p2r4s6t8vw")
    assert trace.caller_span_id == 0
    assert trace != find_trace({}, "01jdq3x5z8m6k7n9p2r4s6t8vx")
    assert trace.trace_id.bit_length() <= 128
