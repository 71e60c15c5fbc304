"""Metrics that answer why, and that stay few whatever callers send."""

from __future__ import annotations

import platform

from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_server.errors import CODES
from atelier_server.version import VERSION
from tests.conftest import RunningServer, StartServer
from tests.server.calls import (
    Stub,
    eventually,
    image_request,
    on_acceptance,
    refusal,
    slow_request,
)
from tests.server.test_metrics import key, samples


async def test_reasons_are_counted(workshop: RunningServer, workshop_stub: Stub) -> None:
    """Of calls that are rejected, and of generations that fail; a failure is no rejection."""
    before = samples(workshop)
    await refusal(workshop_stub.Generate(image_request(engine="nobody")))
    await refusal(workshop_stub.Generate(image_request("memory", engine="odd")))
    after = samples(workshop)
    for sample, growth in (
        (key("atelier_rejections_total", reason="UNKNOWN_ENGINE"), 1),
        (key("atelier_rejections_total", reason="OUT_OF_MEMORY"), 0),
        (key("atelier_failures_total", engine="odd", reason="OUT_OF_MEMORY"), 1),
        (key("atelier_attempts_total", engine="odd", outcome="failed"), 1),
    ):
        assert after.get(sample, 0) - before.get(sample, 0) == growth, sample


async def test_callers_add_no_series(start_server: StartServer) -> None:
    """Names, ids and prompts of calls are no labels: those are engines, models and reasons that the server knows."""
    server = start_server()
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        await refusal(stub.Generate(image_request(engine="nobody")))
        await stub.Generate(image_request())
        await eventually(
            lambda: (
                key("atelier_storage_up") in samples(server)
                and key("atelier_backlog_seconds", engine="sketch") in samples(server)
            )
        )
        before = set(samples(server))
        for number in range(20):
            await refusal(stub.Generate(image_request(engine=f"nobody-{number}")))
            request = image_request(f"prompt {number}", request_id=f"series-{number}")
            await stub.Generate(request)
    assert set(samples(server)) - before == set()
    reasons = {dict(labels).get("reason") for _, labels in before}
    assert reasons - {None} <= set(CODES)
    python = platform.python_version()
    assert key("atelier_build_info", version=VERSION, python=python) in before


async def test_what_waits_ages_and_who_watches_is_counted(start_server: StartServer) -> None:
    """The generation that waits longest tells how long; a call that follows events is one until it ends."""
    server = start_server(engines={"sketch": {"type": "sketch", "concurrency": 1, "hang": True}})
    age = key("atelier_queue_age_seconds", engine="sketch")
    watchers = key("atelier_watchers")
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        await stub.Generate(on_acceptance(slow_request()))
        last = (await stub.Generate(on_acceptance(slow_request()))).generation.id
        call = stub.StreamProgress(pb.StreamProgressRequest(generation_id=last))
        await call.read()
        await eventually(lambda: samples(server)[age] > 1)
        assert samples(server)[watchers] == 1
        call.cancel()
        await eventually(lambda: samples(server)[watchers] == 0)
        await stub.CancelGeneration(pb.CancelGenerationRequest(generation_id=last))
        await eventually(lambda: samples(server)[age] == 0)


async def test_a_breaker_and_a_budget_show(start_server: StartServer) -> None:
    """An open breaker is 1; of an engine with a daily budget, the budget and what is spent of it are told."""
    server = start_server(
        engines={
            "lame": {"type": "sketch", "fail_rate": 1, "breaker": {"failure_threshold": 1}},
            "dear": {"type": "sketch", "price_per_image": 0.5, "daily_budget": 2},
        }
    )
    opened = key("atelier_breaker_open", engine="lame")
    assert samples(server)[opened] == 0
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        await refusal(stub.Generate(image_request(engine="lame")))
        await stub.Generate(image_request(engine="dear"))
    after = samples(server)
    assert after[opened] == 1
    assert after[key("atelier_daily_budget", engine="dear")] == 2
    assert after[key("atelier_daily_spent", engine="dear")] == 0.5
    assert key("atelier_daily_spent", engine="lame") not in after
