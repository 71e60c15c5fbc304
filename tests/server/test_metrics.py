"""What is scraped and probed over HTTP."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

import grpc
import pytest
from grpc import aio
from prometheus_client.parser import text_string_to_metric_families

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import PRIORITY_BATCH
from tests.conftest import RunningServer
from tests.server.calls import (
    Stub,
    audio_request,
    eventually,
    image_request,
    on_acceptance,
    refusal,
    slow_request,
)


def fetch(server: RunningServer, path: str) -> tuple[int, str]:
    """Status and text of a page."""
    url = f"http://{server.metrics_address}{path}"
    try:
        with urllib.request.urlopen(url, timeout=300) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def samples(server: RunningServer) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels."""
    _, text = fetch(server, "/metrics")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """What a sample is found by."""
    return name, frozenset(labels.items())


async def test_work_is_counted_and_timed(workshop: RunningServer, workshop_stub: Stub) -> None:
    """Each metric that dashboards rely on goes up, under the engine's name."""
    before = samples(workshop)
    await workshop_stub.Generate(image_request(engine="twin"))
    patient = audio_request(engine="twin")
    patient.priority = PRIORITY_BATCH
    await workshop_stub.Generate(patient)
    await refusal(workshop_stub.Generate(image_request("memory", engine="odd")))
    await refusal(workshop_stub.Generate(image_request(engine="nobody")))
    after = samples(workshop)
    call = {"grpc_service": "atelier.v1.GenerationService", "grpc_method": "Generate"}
    for sample, growth in (
        (key("atelier_generations_total", engine="twin", outcome="succeeded"), 2),
        (key("atelier_generations_total", engine="odd", outcome="failed"), 1),
        (key("atelier_generation_seconds_count", engine="twin"), 2),
        (key("atelier_queue_seconds_count", engine="twin", priority="interactive"), 1),
        (key("atelier_queue_seconds_count", engine="twin", priority="batch"), 1),
        (key("atelier_outputs_total", engine="twin", model=""), 2),
        (key("atelier_steps_total", engine="twin", model=""), 8),
        (key("atelier_stage_seconds_count", engine="twin", stage="draw"), 1),
        (key("atelier_stage_seconds_count", engine="twin", stage="synthesise"), 1),
        (key("atelier_stage_seconds_count", engine="twin", stage="encode"), 2),
        (key("atelier_artifact_bytes_count", direction="output"), 2),
        (key("grpc_server_started_total", **call), 4),
        (key("grpc_server_handled_total", grpc_code="OK", **call), 2),
        (key("grpc_server_handled_total", grpc_code="NOT_FOUND", **call), 1),
        (key("grpc_server_handled_total", grpc_code="RESOURCE_EXHAUSTED", **call), 1),
        (key("grpc_server_handling_seconds_count", **call), 4),
    ):
        assert after[sample] - before.get(sample, 0) == growth, sample


async def test_calls_are_measured_by_the_names_of_grpc(
    workshop: RunningServer, workshop_stub: Stub
) -> None:
    """Its own metrics (gRFC A66): a method has its service before it, and messages are weighed."""
    before = samples(workshop)
    request = image_request(engine="twin")
    answer = await workshop_stub.Generate(request)
    await refusal(workshop_stub.Generate(image_request(engine="nobody")))
    after = samples(workshop)
    method = {"grpc_method": "atelier.v1.GenerationService/Generate"}
    well = {**method, "grpc_status": "OK"}
    ill = {**method, "grpc_status": "NOT_FOUND"}
    size = "grpc_server_call_{}_total_compressed_message_size_bytes_{}".format
    for sample, growth in (
        (key("grpc_server_call_started_total", **method), 2),
        (key("grpc_server_call_duration_seconds_count", **well), 1),
        (key("grpc_server_call_duration_seconds_count", **ill), 1),
        (key(size("sent", "sum"), **well), answer.ByteSize()),
        (key(size("rcvd", "sum"), **well), request.ByteSize()),
        (key(size("sent", "sum"), **ill), 0),
        (key(size("sent", "count"), **ill), 1),
    ):
        assert after[sample] - before.get(sample, 0) == growth, sample


async def test_every_way_to_be_cancelled_is_counted(
    workshop: RunningServer, workshop_stub: Stub
) -> None:
    """While it runs or waits, by a call or by hanging up."""
    cancelled = key("atelier_generations_total", engine="narrow", outcome="cancelled")
    before = samples(workshop).get(cancelled, 0)
    running = (
        await workshop_stub.Generate(on_acceptance(slow_request(engine="narrow")))
    ).generation
    waiting = (
        await workshop_stub.Generate(on_acceptance(slow_request(engine="narrow")))
    ).generation
    call = workshop_stub.StreamProgress(
        pb.StreamProgressRequest(generate=slow_request(engine="narrow"))
    )
    first = await call.read()
    assert isinstance(first, pb.StreamProgressResponse)
    call.cancel()
    for generation in (waiting, running):
        await workshop_stub.CancelGeneration(
            pb.CancelGenerationRequest(generation_id=generation.id)
        )
    await eventually(lambda: samples(workshop)[cancelled] - before == 3)


async def test_generations_that_run_out_of_time_have_an_outcome_of_their_own(
    workshop: RunningServer, workshop_stub: Stub
) -> None:
    """While they run, in the queue, and when the deadline of the call passes that waits for them."""
    metric = "atelier_generations_total"
    outcomes = ("deadline_exceeded", "cancelled", "failed")
    keys = [key(metric, engine="stuck", outcome=outcome) for outcome in outcomes]
    before = samples(workshop)
    limited = on_acceptance(image_request(engine="stuck", timeout_seconds=3.0))
    for _ in range(2):
        await workshop_stub.Generate(limited)
    await eventually(lambda: samples(workshop).get(keys[0], 0) - before.get(keys[0], 0) == 2)
    with pytest.raises(aio.AioRpcError) as caught:
        await workshop_stub.Generate(image_request(engine="stuck"), timeout=3.0)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: samples(workshop)[keys[0]] - before.get(keys[0], 0) == 3)
    after = samples(workshop)
    assert [after.get(one, 0) for one in keys[1:]] == [before.get(one, 0) for one in keys[1:]]


async def test_calls_that_are_hung_up_on_are_counted(
    workshop: RunningServer, workshop_stub: Stub
) -> None:
    """As CANCELLED, unary and streaming ones."""
    service = "atelier.v1.GenerationService"
    handled = [
        key("grpc_server_handled_total", grpc_code="CANCELLED", grpc_service=service, **method)
        for method in ({"grpc_method": "Generate"}, {"grpc_method": "StreamProgress"})
    ]
    before = samples(workshop)
    unary = workshop_stub.Generate(slow_request(engine="twin", request_id="unary"))
    stream = workshop_stub.StreamProgress(
        pb.StreamProgressRequest(generate=slow_request(engine="twin", request_id="unary"))
    )
    assert isinstance(await stream.read(), pb.StreamProgressResponse)
    unary.cancel()
    stream.cancel()
    after = before
    while any(after.get(sample, 0) <= before.get(sample, 0) for sample in handled):
        after = samples(workshop)


async def test_calls_that_end_at_their_deadline_are_counted_as_such(
    workshop: RunningServer, workshop_stub: Stub
) -> None:
    """Not as CANCELLED, which says that the caller left."""
    made = await workshop_stub.Generate(on_acceptance(slow_request(engine="twin")))
    watch = pb.StreamProgressRequest(generation_id=made.generation.id)
    exceeded = key(
        "grpc_server_handled_total",
        grpc_code="DEADLINE_EXCEEDED",
        grpc_service="atelier.v1.GenerationService",
        grpc_method="StreamProgress",
    )
    before = samples(workshop).get(exceeded, 0)
    with pytest.raises(aio.AioRpcError) as caught:
        async for _ in workshop_stub.StreamProgress(watch, timeout=1.5):
            pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    while samples(workshop).get(exceeded, 0) == before:
        pass
    await workshop_stub.CancelGeneration(
        pb.CancelGenerationRequest(generation_id=made.generation.id)
    )


def test_histograms_of_time_reach_many_hours(server: RunningServer) -> None:
    """An hour is the longest timeout of most engines, and a queue may take longer."""
    call = {"grpc_service": "grpc.health.v1.Health", "grpc_method": "Check"}
    found = samples(server)
    for bound in ("3600.0", "43200.0"):
        assert key("grpc_server_handling_seconds_bucket", le=bound, **call) in found


async def test_load_is_shown(workshop: RunningServer, workshop_stub: Stub) -> None:
    """What waits and runs now, for every engine, and which engines are up."""
    ids = [
        (await workshop_stub.Generate(on_acceptance(slow_request(engine="narrow")))).generation.id
        for _ in range(2)
    ]
    shown: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    while not shown.get(key("atelier_queue_depth", engine="narrow")):
        shown = samples(workshop)
    assert shown[key("atelier_queue_depth", engine="narrow")] == 1
    assert shown[key("atelier_in_flight", engine="narrow")] == 1
    assert key("atelier_backlog_seconds", engine="narrow") not in shown  # unknown is not 0
    assert shown[key("atelier_backlog_seconds", engine="sketch")] == 0
    assert shown[key("atelier_engine_up", engine="sketch")] == 1
    assert shown[key("atelier_engine_up", engine="absent")] == 0
    for generation_id in reversed(ids):
        await workshop_stub.CancelGeneration(
            pb.CancelGenerationRequest(generation_id=generation_id)
        )


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [("/healthz", 200, "alive"), ("/readyz", 200, "ready"), ("/", 404, "/metrics")],
)
def test_probes_are_answered(server: RunningServer, path: str, status: int, text: str) -> None:
    """Whether it lives, and whether it takes generations."""
    found, body = fetch(server, path)
    assert found == status
    assert text in body


@pytest.mark.parametrize(
    ("path", "status"), [("/metrics", 200), ("/healthz", 200), ("/readyz", 200), ("/", 404)]
)
def test_head_is_answered_as_get_without_the_body(
    server: RunningServer, path: str, status: int
) -> None:
    """With the type and the length of what GET returns."""
    connection = http.client.HTTPConnection(server.metrics_address, timeout=300)
    try:
        connection.request("HEAD", path)
        response = connection.getresponse()
        assert (response.status, response.read()) == (status, b"")
        assert response.headers["Content-Type"].startswith("text/plain")
        assert int(response.headers["Content-Length"]) > 0
    finally:
        connection.close()
