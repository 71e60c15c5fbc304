"""Exemplars: measurements lead to the trace of one generation, for those who read the metrics as OpenMetrics."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from contextlib import closing

from grpc import aio
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import RunningServer, StartServer
from tests.server.calls import image_request
from tests.server.test_metrics import fetch

RECORDED = "0af7651916cd43dd8448eb211c80319c"
IGNORED = "1bf7651916cd43dd8448eb211c80319d"
LINKED = {
    "atelier_generation_seconds",
    "atelier_queue_seconds",
    "atelier_stage_seconds",
    "grpc_server_call_duration_seconds",
    "grpc_server_handling_seconds",
}
"""Histograms whose measurements have a trace."""


def read_exemplars(server: RunningServer) -> Mapping[str, set[str]]:
    """The traces that measurements lead to, by the metric."""
    found: dict[str, set[str]] = {}
    with closing(http.client.HTTPConnection(server.metrics_address, timeout=300)) as connection:
        headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
        connection.request("GET", "/metrics", headers=headers)
        answer = connection.getresponse()
        text = answer.read().decode()
    assert (answer.getheader("Content-Type") or "").startswith("application/openmetrics-text")
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.exemplar is not None:
                found.setdefault(family.name, set()).add(sample.exemplar.labels["trace_id"])
    return found


async def generate(server: RunningServer, *traces: str) -> None:
    """Generate once for each trace context."""
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        for trace in traces:
            await stub.Generate(image_request(), metadata=(("traceparent", trace),))


async def test_measurements_lead_to_the_trace_that_is_recorded(start_server: StartServer) -> None:
    """From queue, stages, the whole generation and the call; not to one whose caller records nothing."""
    nobody = "http://127.0.0.1:9"  # what cannot be sent is dropped
    server = start_server(environment={"OTEL_EXPORTER_OTLP_ENDPOINT": nobody})
    contexts = (f"00-{RECORDED}-b7ad6b7169203331-01", f"00-{IGNORED}-b7ad6b7169203331-00")
    await generate(server, *contexts)
    found = read_exemplars(server)
    assert found.keys() == LINKED
    assert set.union(*found.values()) == {RECORDED}
    _, classic = fetch(server, "/metrics")
    assert RECORDED not in classic
    assert "atelier_generation_seconds_bucket" in classic


async def test_without_traces_measurements_lead_nowhere(server: RunningServer) -> None:
    """Nobody could follow."""
    await generate(server, f"00-{RECORDED}-b7ad6b7169203331-01")
    assert read_exemplars(server) == {}
