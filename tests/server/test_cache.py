"""The result cache: equal requests get the same output at once, free, marked as cached."""

from __future__ import annotations

import asyncio

from grpc import aio

from atelier.v1.generation_pb2 import Generation
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import StartServer
from tests.server.calls import image_request, slow_request
from tests.server.test_metrics import key, samples

KEEPING = {
    "type": "sketch",
    "result_cache_bytes": 10_000_000,
    "price_per_image": 0.4,
    "daily_budget": 1.0,
}


async def test_an_equal_request_is_free_and_its_receipt_says_why(start_server: StartServer) -> None:
    """In any file format, with its own artifacts; another seed is not cached."""
    server = start_server(engines={"keeping": KEEPING, "plain": {"type": "sketch"}})
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)

        async def made(engine: str = "keeping", **task: object) -> Generation:
            asked = image_request(engine=engine, task={"seed": 7, **task})
            return (await stub.Generate(asked)).generation

        first = await made()
        again = await made()
        assert (first.receipt.cached, again.receipt.cached) == (False, True)
        assert first.receipt.cost.amount == 0.4
        assert not again.receipt.HasField("cost")
        assert [timing.stage for timing in again.receipt.timings][1] == "cache"
        one, other = first.outputs[0].artifact, again.outputs[0].artifact
        assert one.id != other.id
        assert one.image_size == other.image_size
        assert again.receipt.recipe == first.receipt.recipe
        assert (await made(format=3)).receipt.cached
        for _ in range(3):
            assert (await made()).receipt.cached, "also beyond what the budget would buy"
        assert not (await made(seed=8)).receipt.cached
        for _ in range(2):
            assert not (await made("plain")).receipt.cached
    seen = samples(server)
    assert seen[key("atelier_cache_lookups_total", engine="keeping", outcome="hit")] == 5
    assert seen[key("atelier_cache_lookups_total", engine="keeping", outcome="miss")] == 2
    assert seen[key("atelier_cache_bytes", engine="keeping")] > 2 * 64 * 64 * 3
    assert seen[key("atelier_cost_total", engine="keeping", currency="USD")] == 0.8
    assert key("atelier_cache_bytes", engine="plain") not in seen


async def test_concurrent_equal_requests_are_executed_once(start_server: StartServer) -> None:
    """One is executed, the others wait for it; the service time is measured once."""
    server = start_server(engines={"keeping": {**KEEPING, "concurrency": 4, "daily_budget": 10.0}})
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        asked = slow_request(0.5, engine="keeping", task={"seed": 7})
        answers = await asyncio.gather(*(stub.Generate(asked) for _ in range(4)))
        receipts = [answer.generation.receipt for answer in answers]
        assert sorted(receipt.cached for receipt in receipts) == [False, True, True, True]
        assert sorted(receipt.cost.amount for receipt in receipts) == [0.0, 0.0, 0.0, 0.4]
        waited = [receipt for receipt in receipts if receipt.cached]
        assert all("wait" in [timing.stage for timing in one.timings] for one in waited)
