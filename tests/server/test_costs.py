"""The cost of generations, daily budgets, and circuit breakers."""

from __future__ import annotations

import asyncio
import urllib.request
from datetime import date

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from atelier.v1 import engine_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import ImageTask
from atelier_server.engines.status import DailyBudget
from tests.conftest import RunningServer, StartServer
from tests.server.calls import read, refusal

DEAR = {
    "type": "sketch",
    "price_per_image": 0.4,
    "daily_budget": 1.0,
}


def picture(engine: str = "", count: int = 1) -> pb.GenerateRequest:
    """A small picture."""
    task = ImageTask(prompt="a cat", width=64, height=64, num_images=count)
    return pb.GenerateRequest(engine=engine, image=task)


def scraped(server: RunningServer) -> str:
    """The metrics as Prometheus scrapes them."""
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics") as page:
        return str(page.read().decode())


def quota_of(error: aio.AioRpcError) -> error_details_pb2.QuotaFailure:
    """The QuotaFailure in the error's details."""
    trailers = dict(error.trailing_metadata())
    quota = error_details_pb2.QuotaFailure()
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert any(detail.Unpack(quota) for detail in status.details)
    return quota


async def test_a_daily_budget_holds_across_a_restart(
    start_server: StartServer,
) -> None:
    """Receipts and a metric state the cost; once exhausted, another engine is selected or the request rejected."""
    server = start_server(engines={"dear": DEAR})
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        first = (await stub.Generate(picture(count=2))).generation
        assert (first.receipt.cost.currency, first.receipt.cost.amount) == ("USD", 0.8)
        await stub.Generate(picture("dear"))
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.Generate(picture("dear"))
        refused = read(caught.value)
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "BUDGET_EXCEEDED",
        )
        assert quota_of(caught.value).violations[0].subject == "daily_budget"
        plan = await stub.PlanGeneration(pb.PlanGenerationRequest(generate=picture("dear")))
        assert (plan.accepted, plan.rejection.reason) == (False, "BUDGET_EXCEEDED")
    (line,) = [
        line
        for line in scraped(server).splitlines()
        if line.startswith('atelier_cost_total{currency="USD",engine="dear"}')
    ]
    assert round(float(line.split()[-1]), 6) == 1.2
    server.terminate()
    server = start_server(
        engines={"dear": DEAR, "free": {"type": "sketch", "price_per_image": 9}}, routing="cheapest"
    )
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        assert (await refusal(stub.Generate(picture("dear")))).reason == "BUDGET_EXCEEDED"
        assert (await stub.Generate(picture())).generation.engine == "free"


async def test_a_fallback_keeps_to_its_budget_too(start_server: StartServer) -> None:
    """An engine with an exhausted budget takes over from no other one."""
    failing = {"type": "sketch", "fail_rate": 1, "fallbacks": ["dear", "free"]}
    engines = {"bad": failing, "dear": DEAR, "free": {"type": "sketch"}}
    server = start_server(engines=engines, routing="cheapest")
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        made = [(await stub.Generate(picture("bad"))).generation for _ in range(4)]
    assert [one.engine for one in made] == ["dear", "dear", "dear", "free"]
    assert [tried.engine for tried in made[3].receipt.attempts] == ["bad", "free"]


async def test_what_an_engine_made_before_its_fallback_took_over_is_spent(
    start_server: StartServer,
) -> None:
    """On its budget, across a restart; the receipt states the cost of the outputs that there are."""
    engines = {
        "bad": {**DEAR, "daily_budget": 0.4, "fail_rate": 1, "fallbacks": ["good"]},
        "good": {"type": "sketch", "price_per_image": 0.1},
    }
    for tried in (["bad", "good"], ["good"]):
        server = start_server(engines=engines)
        async with aio.insecure_channel(server.address) as channel:
            stub = GenerationServiceStub(channel)
            for begun in (tried, ["good"]):
                made = (await stub.Generate(picture("bad", count=2))).generation
                assert [one.engine for one in made.receipt.attempts if one.number] == begun
                assert made.receipt.cost.amount == 0.2
        server.terminate()


def test_what_was_spent_on_another_day_does_not_count() -> None:
    """A budget that was exhausted is whole again, and counts from 0."""
    budget = DailyBudget(limit=1.0, day=date(2000, 1, 1), amount=5.0)
    assert (budget.spent_today, budget.exhausted) == (0.0, False)
    assert budget.add(1.0).spent_today == 1.0
    assert budget.add(1.0).exhausted


async def test_the_circuit_breaker_opens_after_repeated_failures(start_server: StartServer) -> None:
    """The engine is UNAVAILABLE and Health says why; other engines are not affected."""
    failing = {
        "type": "sketch",
        "fail_rate": 1,
        "breaker": {"failure_threshold": 2, "reset_timeout_seconds": 600},
    }
    server = start_server(engines={"bad": failing, "good": {"type": "sketch"}}, routing="cheapest")
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        for _ in range(2):
            assert (await refusal(stub.Generate(picture("bad")))).reason == "ENGINE_FAILED"
        async with asyncio.timeout(300):
            while True:
                health = await stub.Health(pb.HealthRequest())
                (bad,) = [engine for engine in health.engines if engine.engine == "bad"]
                if bad.state == engine_pb2.ENGINE_STATE_UNAVAILABLE:
                    break
                await asyncio.sleep(0.02)
        assert "circuit breaker open" in bad.message
        assert (await refusal(stub.Generate(picture("bad")))).reason == "ENGINE_UNAVAILABLE"
        assert (await stub.Generate(picture())).generation.engine == "good"
