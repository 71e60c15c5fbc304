"""Which engine does a task that names none, and who takes over when one fails."""

from __future__ import annotations

import pytest
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.engine_pb2 import REPRODUCIBILITY_BIT_EXACT
from atelier.v1.generation_pb2 import AttemptOutcome, State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import ImageTask, MediaSource
from tests.conftest import RunningServer, StartServer
from tests.server.calls import (
    Stub,
    audio_request,
    dispositions,
    events_of,
    image_request,
    receipt_of,
    refusal,
    stored_blobs,
)
from tests.server.test_artifacts import png

OUTCOMES = AttemptOutcome.Name


async def planned(stub: Stub, request: pb.GenerateRequest) -> str:
    """The engine that would run it."""
    plan = await stub.PlanGeneration(pb.PlanGenerationRequest(generate=request))
    return plan.engine


async def test_the_cheapest_engine_that_can_do_it_is_taken(workshop_stub: Stub) -> None:
    """Of equals the first in the configuration; `dear` stands before them and costs more."""
    assert await planned(workshop_stub, image_request(engine="")) == "sketch"
    made = (await workshop_stub.Generate(audio_request(engine=""))).generation
    assert (made.engine, made.receipt.attempts[0].engine) == ("sketch", "sketch")


async def test_a_price_is_paid_for_what_nobody_does_for_free(start_server: StartServer) -> None:
    """A picture alone can't be started from another one; only the dear engine can."""
    engines = {
        "free": {"type": "sketch", "output_bytes": 8192},
        "dearer": {"type": "sketch", "price_per_image": 2},
        "dear": {"type": "sketch", "price_per_image": 1},
    }
    server = start_server(engines=engines)
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        assert await planned(stub, image_request(engine="")) == "free"
        request = image_request(engine="", task={"init_image": MediaSource(attachment="a")})
        request.attachments["a"] = png()
        assert await planned(stub, request) == "dear"


async def test_what_none_can_do_goes_to_the_default(start_server: StartServer) -> None:
    """Its refusal is the answer."""
    engines = {"first": {"type": "sketch"}, "second": {"type": "sketch"}}
    server = start_server(engines=engines, default_engine="second")
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        assert await planned(stub, image_request(engine="")) == "first"
        refused = await refusal(stub.Generate(image_request(engine="", options={"colour": "red"})))
        assert "options.colour" in refused.fields
        refused = await refusal(
            stub.Generate(audio_request(engine="", task={"loudness_lufs": -14.0}))
        )
        assert refused.metadata["engine"] == "second"


async def test_another_engine_takes_over_from_one_that_fails(workshop_stub: Stub) -> None:
    """Down the chain, past those that fail too or can't do it; the receipt tells all of it."""
    request = pb.StreamProgressRequest(generate=audio_request(engine="lame"))
    log = await events_of(workshop_stub, request)
    made = log[-1].generation
    assert (made.state, made.engine) == (State.STATE_SUCCEEDED, "twin")
    attempts = [(tried.engine, OUTCOMES(tried.outcome)) for tried in made.receipt.attempts]
    failed, succeeded = "ATTEMPT_OUTCOME_FAILED", "ATTEMPT_OUTCOME_SUCCEEDED"
    assert attempts == [("lame", failed), ("lamer", failed), ("twin", succeeded)]
    assert [tried.number for tried in made.receipt.attempts] == [1, 2, 3]
    assert made.receipt.attempts[0].failure.reason == "ENGINE_FAILED"
    engines = list(dict.fromkeys(event.engine for event in log))
    assert engines == ["lame", "lamer", "twin"]
    assert [event.sequence for event in log] == list(range(1, len(log) + 1))


async def test_a_take_over_keeps_the_seed_and_tells_it_truly(workshop_stub: Stub) -> None:
    """It was drawn once, not asked for."""
    made = (await workshop_stub.Generate(audio_request(engine="lame"))).generation
    assert dispositions(made)["seed"] == "defaulted"
    assert made.outputs[0].seed == receipt_of(made)["seed"].value.number_value
    assert list(made.receipt.recipe.seeds) == [made.outputs[0].seed]


async def test_what_a_failed_engine_had_made_is_thrown_away(
    workshop: RunningServer, workshop_stub: Stub
) -> None:
    """It fails after its first picture; no file of that stays."""
    before = stored_blobs(workshop)
    made = (
        await workshop_stub.Generate(image_request(engine="lame", task={"num_images": 2}))
    ).generation
    kept = {output.artifact.id for output in made.outputs}
    assert len(kept) == 2
    assert stored_blobs(workshop) - before == kept


@pytest.mark.parametrize(
    ("prompt", "engine"),
    [("away", "twin"), ("memory", "twin"), ("nothing", "twin"), ("late", ""), ("filtered", "")],
)
async def test_only_what_can_do_no_harm_is_tried_again(
    workshop_stub: Stub, prompt: str, engine: str
) -> None:
    """A vendor may still be at work on what timed out; what was refused stays refused."""
    call = workshop_stub.Generate(image_request(prompt, engine="odder"))
    if engine:
        assert (await call).generation.engine == engine
    else:
        assert (await refusal(call)).metadata["generation_id"]


async def test_a_named_engine_without_chain_fails_alone(workshop_stub: Stub) -> None:
    """Nothing is degraded in silence."""
    refused = await refusal(workshop_stub.Generate(image_request(engine="lamer")))
    assert refused.reason == "ENGINE_FAILED"
    assert "as configured" in refused.message


async def test_an_engine_whose_model_is_missing_names_who_could_do_it(workshop_stub: Stub) -> None:
    """Of its fallbacks only those that can work now."""
    refused = await refusal(workshop_stub.Generate(image_request(engine="absent")))
    assert refused.reason == "ENGINE_UNAVAILABLE"
    assert refused.message.endswith("; its fallbacks are ready: twin")


async def test_the_receipt_of_a_fallback_is_that_of_the_engine_that_did_it(
    workshop_stub: Stub,
) -> None:
    """Parameters and reproducibility are decided anew, with the defaults of the fallback."""
    request = pb.GenerateRequest(engine="odder", image=ImageTask(prompt="away"))
    generation = (await workshop_stub.Generate(request)).generation
    receipt = receipt_of(generation)
    size = generation.outputs[0].artifact.image_size
    assert generation.engine == "twin"
    assert (receipt["width"].value.number_value, size.width) == (512, 512)
    assert receipt["steps"].value.number_value == 4
    assert generation.receipt.reproducibility == REPRODUCIBILITY_BIT_EXACT
    assert generation.receipt.recipe.engine_type == "sketch"
