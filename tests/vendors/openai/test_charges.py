"""What a task costs at OpenAI: by the tokens that the service counts, and never by an invented price."""

from __future__ import annotations

from dataclasses import replace

import pytest
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_engines.conformance.remote_service import collect_outputs
from atelier_engines.event import Charge
from atelier_engines.vendors.openai.charges import find_charge
from atelier_engines.vendors.openai.config import OpenaiConfig
from atelier_engines.vendors.openai.token_prices import TokenUsage
from tests.conftest import StartServer
from tests.server.calls import image_request, refusal
from tests.vendors.openai.stand_in import KEY, TASK, USAGE, StandIn

COUNTED = {
    "text_input_tokens": 20,
    "image_input_tokens": 30,
    "text_output_tokens": 0,
    "image_output_tokens": 1000,
}
PRICES = {"text_input": 5.0, "image_input": 10.0, "image_output": 40.0, "currency": "EUR"}
COST = (20 * 5 + 30 * 10 + 1000 * 40) / 1e6
USED = TokenUsage(text_input=20, image_input=30, text_output=0, image_output=1000)
SIZE = {"width": 1024, "height": 1024}


def configured(**settings: object) -> OpenaiConfig:
    """A configuration for OpenAI itself."""
    return OpenaiConfig.model_validate({"api_key": KEY, **settings})


@pytest.mark.parametrize("interval", [0, 1], ids=["whole", "streamed"])
async def test_tokens_cost_what_is_configured(vendor: StandIn, interval: int) -> None:
    """The usage of every response is read, of a stream's last event too."""
    task = replace(TASK, preview_interval=interval)
    (output,) = await collect_outputs(vendor, task, token_prices=PRICES)
    charge = output.charge
    assert charge is not None
    assert charge.usage == COUNTED
    assert charge.amount == pytest.approx(COST)
    assert charge.currency == "EUR"
    assert "configured token_prices" in charge.explanation


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"input_tokens": 5}, "many", {**USAGE, "input_tokens_details": {"text_tokens": 5}}],
    ids=["none", "empty", "incomplete", "text", "half"],
)
async def test_a_service_that_does_not_count_charges_nothing_here(
    vendor: StandIn, usage: object
) -> None:
    """Services with the same API leave the usage out, or parts of it."""
    vendor.changed = {"usage": usage}
    (output,) = await collect_outputs(vendor, token_prices=PRICES)
    assert output.charge is None


async def test_tokens_that_cannot_be_told_apart_have_no_cost(vendor: StandIn) -> None:
    """Without details, text and image tokens of the request are one number."""
    vendor.changed = {"usage": {"input_tokens": 50, "output_tokens": 1000, "total_tokens": 1050}}
    (output,) = await collect_outputs(vendor, token_prices=PRICES)
    assert output.charge == Charge(
        usage={"text_output_tokens": 0, "image_output_tokens": 1000},
        explanation="unknown: the service counted tokens that the configured token_prices do not cover",
    )


@pytest.mark.parametrize(
    ("settings", "amount", "explanation"),
    [
        ({}, (20 * 5 + 30 * 8 + 1000 * 30) / 1e6, "OpenAI's list prices of November 2026"),
        ({"model": "gpt-image-2.6-flare"}, 0.03034, "OpenAI's list prices of November 2026"),
        ({"token_prices": PRICES, "price": {"amount": 9}}, COST, "the configured token_prices"),
        ({"price": {"amount": 9}}, None, "by the configured price of the engine"),
        ({"model": "gpt-image-3"}, None, "unknown: no prices of gpt-image-3 are known"),
        ({"base_url": "https://images.example/v1"}, None, "unknown: no prices of gpt-image-2 are"),
    ],
    ids=["listed", "newer", "tokens", "image", "unlisted", "elsewhere"],
)
def test_the_first_price_that_is_known_counts(
    settings: dict[str, object], amount: float | None, explanation: str
) -> None:
    """That of the configuration before OpenAI's own, which hold for OpenAI alone; without any the cost is unknown."""
    charge = find_charge(USED, configured(**settings))
    assert charge.amount == (None if amount is None else pytest.approx(amount))
    assert explanation in charge.explanation


def test_text_in_the_result_has_a_price_of_its_own() -> None:
    """Where that is not known, the cost is not."""
    usage = replace(USED, text_output=10)
    assert find_charge(usage, configured(token_prices=PRICES)).amount is None
    priced = find_charge(usage, configured(token_prices={**PRICES, "text_output": 1.0}))
    assert priced.amount == pytest.approx(COST + 10 / 1e6)


async def test_the_receipt_has_usage_and_cost_and_the_budget_counts_it(
    vendor: StandIn, start_server: StartServer
) -> None:
    """Of all images together; the engine needs no price for that."""
    engine = {"type": "openai", "api_key": KEY, "base_url": vendor.api}
    priced = {**engine, "token_prices": PRICES, "daily_budget": COST}
    server = start_server(engines={"priced": priced, "unpriced": engine})
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        request = image_request(engine="priced", task={**SIZE, "num_images": 2})
        receipt = (await stub.Generate(request)).generation.receipt
        assert dict(receipt.usage) == {name: 2 * number for name, number in COUNTED.items()}
        assert receipt.cost.amount == pytest.approx(2 * COST)
        assert receipt.cost.currency == "EUR"
        assert receipt.cost_explanation == "by the tokens counted and the configured token_prices"
        assert (await refusal(stub.Generate(request))).reason == "BUDGET_EXCEEDED"
        unpriced = pb.GenerateRequest()
        unpriced.CopyFrom(image_request(engine="unpriced", task=SIZE))
        receipt = (await stub.Generate(unpriced)).generation.receipt
    assert dict(receipt.usage) == COUNTED
    assert not receipt.HasField("cost")
    assert (
        receipt.cost_explanation == "unknown: no prices of gpt-image-2 are known; set token_prices"
    )
