"""A replicate engine in a server: receipts, prices, and what is refused before anything is paid."""

from __future__ import annotations

import asyncio
import io

import grpc
from grpc import aio
from PIL import Image

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import Disposition
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import MediaSource
from tests.conftest import StartServer
from tests.server.calls import eventually, image_request, refusal
from tests.vendors.replicate.models import KONTEXT, SDXL, SDXL_VERSION
from tests.vendors.replicate.stand_in import KEY, NSFW, StandIn

SIZE = {"width": 128, "height": 136}


def _engine(vendor: StandIn, **settings: object) -> dict[str, object]:
    account = {"type": "replicate", "api_key": KEY, "base_url": vendor.api, "model": SDXL}
    return {**account, "poll_seconds": 0.01, **settings}


def _png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "#804020").save(file, "PNG")
    return file.getvalue()


async def test_a_strength_that_the_model_has_no_input_for_is_told_or_refused(
    vendor: StandIn, start_server: StartServer
) -> None:
    """The receipt says that it has no effect; a strict request is refused, and nothing is paid."""
    server = start_server(engines={"remote": _engine(vendor, model=KONTEXT)})
    task = {**SIZE, "init_image": MediaSource(attachment="start"), "strength": 0.4}
    request = image_request(engine="remote", task=task, attachments={"start": _png()})
    strict = pb.GenerateRequest()
    strict.CopyFrom(request)
    strict.strict = True
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        refused = await refusal(stub.Generate(strict))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert vendor.accepted == 0
        made = (await stub.Generate(request)).generation
    (entry,) = [one for one in made.receipt.parameters if one.name == "strength"]
    assert entry.disposition == Disposition.DISPOSITION_IGNORED
    assert "follows the prompt alone" in entry.explanation
    (job,) = vendor.jobs.values()
    assert "input_image" in job.body


async def test_an_option_outside_the_schema_is_refused_and_nothing_is_paid(
    vendor: StandIn, start_server: StartServer
) -> None:
    """The schema was read at the start; the receipt names the version that ran."""
    server = start_server(engines={"remote": _engine(vendor)})
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        for options in ({"high_noise_frac": 2}, {"megapixels": "1"}):
            wrong = image_request(engine="remote", task=SIZE, options=options)
            refused = await refusal(stub.Generate(wrong))
            assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert vendor.accepted == 0
        right = image_request(engine="remote", task=SIZE, options={"high_noise_frac": 0.5})
        made = (await stub.Generate(right)).generation
    assert made.receipt.recipe.versions[SDXL] == SDXL_VERSION
    (job,) = vendor.jobs.values()
    assert job.body["high_noise_frac"] == 0.5


async def test_the_configured_price_counts_for_the_budget(
    vendor: StandIn, start_server: StartServer
) -> None:
    """The receipt says the cost; what the budget does not allow is not sent."""
    price = {"price": {"amount": 0.03}, "daily_budget": 0.05}
    server = start_server(engines={"remote": _engine(vendor, **price)})
    request = image_request(engine="remote", task={**SIZE, "num_images": 2})
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        made = (await stub.Generate(request)).generation
        assert (made.receipt.cost.currency, made.receipt.cost.amount) == ("USD", 0.06)
        assert (await refusal(stub.Generate(request))).reason == "BUDGET_EXCEEDED"
    assert vendor.accepted == 2


async def test_what_was_made_before_a_failure_is_paid(
    vendor: StandIn, start_server: StartServer
) -> None:
    """The receipt states the cost of the first image though the second one was refused, and the budget counts it."""
    price = {"price": {"amount": 0.03}, "daily_budget": 0.03, "concurrency": 1}
    server = start_server(engines={"remote": _engine(vendor, **price)})
    request = image_request(engine="remote", task={**SIZE, "num_images": 2})
    vendor.polls.always = vendor.running
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        call = asyncio.ensure_future(refusal(stub.Generate(request)))
        await eventually(lambda: len(vendor.jobs) == 2)
        list(vendor.jobs.values())[1].body["prompt"] = NSFW
        vendor.polls.clear()
        refused = await call
        assert refused.reason == "CONTENT_FILTERED"
        found = pb.GetGenerationRequest(generation_id=refused.metadata["generation_id"])
        receipt = (await stub.GetGeneration(found)).generation.receipt
        assert (receipt.cost.currency, receipt.cost.amount) == ("USD", 0.03)
        assert (await refusal(stub.Generate(request))).reason == "BUDGET_EXCEEDED"
    assert vendor.accepted == 2
