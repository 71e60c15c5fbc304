"""Which engine executes a task that names none, and which fallback takes over after a failure."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc import StatusCode, aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.engine_pb2 import REPRODUCIBILITY_BIT_EXACT
from atelier.v1.generation_pb2 import AttemptOutcome, SelectionReason, State
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
from tests.server.conftest import install_odd
from tests.server.test_artifacts import png

OUTCOMES = AttemptOutcome.Name


PLACEHOLDER = {"type": "sketch"}


async def planned(stub: Stub, request: pb.GenerateRequest) -> str:
    """The engine that would execute the request."""
    plan = await stub.PlanGeneration(pb.PlanGenerationRequest(generate=request))
    return plan.engine


async def test_the_default_engine_is_the_default(workshop_stub: Stub) -> None:
    """Though the others are free; plan and receipt say so."""
    request = pb.PlanGenerationRequest(generate=image_request(engine=""))
    plan = await workshop_stub.PlanGeneration(request)
    made = (await workshop_stub.Generate(audio_request(engine=""))).generation
    assert (plan.engine, made.engine, made.receipt.attempts[0].engine) == ("dear",) * 3
    for selection in (plan.selection, made.receipt.selection):
        assert selection.reason == SelectionReason.SELECTION_REASON_DEFAULT
        assert selection.explanation == "the default engine"
    named = (await workshop_stub.Generate(audio_request(engine="twin"))).generation
    assert named.receipt.selection.reason == SelectionReason.SELECTION_REASON_NAMED


@pytest.mark.parametrize("routing", ["default", "cheapest"])
async def test_audio_goes_to_an_engine_that_makes_audio(
    start_server: StartServer, tmp_path: Path, routing: str
) -> None:
    """Where the default engine makes none: to the first that does, to a placeholder only if there is no other."""
    model, voice = {"type": "odd"}, {"type": "speech"}
    environment = install_odd(tmp_path / "site")
    engines = {"sketch": PLACEHOLDER, "model": model, "voice": voice}
    server = start_server(
        engines=engines, routing=routing, environment=environment, wait=["sketch", "model"]
    )
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        assert await planned(stub, image_request(engine="")) == "model"
        made = (await stub.Generate(audio_request(engine=""))).generation
    assert made.engine == "sketch"
    selection = made.receipt.selection
    assert selection.reason == SelectionReason.SELECTION_REASON_DEFAULT
    assert selection.explanation == "the default engine, model, does no audio tasks"


async def test_what_the_default_engine_cannot_do_is_refused_with_the_names_of_those_that_can(
    start_server: StartServer, tmp_path: Path
) -> None:
    """A size, an option; nothing is decided for the caller, least of all for the placeholder."""
    server = start_server(
        engines={"sketch": PLACEHOLDER, "model": {"type": "odd"}},
        environment=install_odd(tmp_path / "site"),
    )
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        answer = await stub.GetCapabilities(pb.GetCapabilitiesRequest())
        assert (answer.default_engine, answer.routing) == ("model", pb.ROUTING_POLICY_DEFAULT)
        assert [engine.placeholder for engine in answer.engines] == [True, False]
        assert await planned(stub, image_request(engine="")) == "model"
        sized = {"width": 70, "height": 70}
        refusals = [
            await refusal(stub.Generate(image_request(engine="", task=sized))),
            await refusal(stub.Generate(image_request(engine="", options={"font_size": 20}))),
        ]
    assert [refused.code for refused in refusals] == [StatusCode.INVALID_ARGUMENT] * 2
    for refused in refusals:
        assert (refused.metadata["engine"], refused.metadata["engines"]) == ("model", "sketch")
        assert "sketch" in refused.message


async def test_a_request_that_is_wrong_for_every_engine_names_none(workshop_stub: Stub) -> None:
    """The caller is not sent in search of an engine."""
    refused = await refusal(workshop_stub.Generate(image_request(engine="", options={"colour": 1})))
    assert "options.colour" in refused.fields
    assert "engines" not in refused.metadata


async def test_what_no_engine_can_do_is_refused_with_the_nearest_miss(
    start_server: StartServer, tmp_path: Path
) -> None:
    """The limit of the engine that makes sound is the matter, not that the other one makes none."""
    server = start_server(
        engines={"model": {"type": "odd"}, "sketch": PLACEHOLDER},
        environment=install_odd(tmp_path / "site"),
    )
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        refused = await refusal(stub.Generate(audio_request(engine="model", seconds=700)))
        assert refused.code is StatusCode.FAILED_PRECONDITION
        assert "this engine does not support audio tasks; no engine" in refused.message
        assert refused.message.endswith(
            "the nearest is 'sketch', where duration must be 0.1 to 600.0, not 700.0"
        )
        assert not refused.metadata["engines"]
        task = {"width": 70, "height": 70, "num_images": 17}
        refused = await refusal(stub.Generate(image_request(engine="", task=task)))
        assert refused.code is StatusCode.INVALID_ARGUMENT
        assert refused.message.endswith(
            "the nearest is 'sketch', where num_images must be at most 16, not 17"
        )
        named = await refusal(stub.Generate(audio_request(engine="sketch", seconds=700)))
        assert "nearest" not in named.message


async def test_the_cheapest_capable_engine_is_selected_if_so_configured(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Of equally cheap ones the first; the placeholder is free and takes no part."""
    engines = {
        "sketch": PLACEHOLDER,
        "dear": {"type": "odd", "price_per_second": 9.0},
        "cheap": {"type": "odd", "price_per_second": 1.0},
        "cheap-too": {"type": "odd", "price_per_second": 1.0},
    }
    server = start_server(
        engines=engines, routing="cheapest", environment=install_odd(tmp_path / "site")
    )
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        made = (await stub.Generate(image_request(engine=""))).generation
        assert made.engine == "cheap"
        selection = made.receipt.selection
        assert selection.reason == SelectionReason.SELECTION_REASON_CHEAPEST
        assert "dear, cheap, cheap-too" in selection.explanation


async def test_a_paid_engine_is_selected_if_no_free_one_is_capable(
    start_server: StartServer,
) -> None:
    """Only the paid engines support image-to-image; placeholders are selected, for there is nothing else."""
    engines = {
        "free": {"type": "sketch", "output_bytes": 8192},
        "dearer": {"type": "sketch", "price_per_image": 2},
        "dear": {"type": "sketch", "price_per_image": 1},
    }
    server = start_server(engines=engines, routing="cheapest")
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        assert await planned(stub, image_request(engine="")) == "free"
        request = image_request(engine="", task={"init_image": MediaSource(attachment="a")})
        request.attachments["a"] = png()
        assert await planned(stub, request) == "dear"


async def test_the_fastest_capable_engine_is_selected_if_so_configured(
    start_server: StartServer,
) -> None:
    """By the time that its generations took; one without a measurement comes last."""
    engines = {
        "unknown": {"type": "sketch"},
        "slow": {"type": "sketch", "delay_seconds": 2.0},
        "fast": {"type": "sketch"},
    }
    server = start_server(engines=engines, routing="fastest")
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        assert await planned(stub, image_request(engine="")) == "unknown"
        for engine in ("slow", "fast"):
            await stub.Generate(image_request(engine=engine))
        made = (await stub.Generate(image_request(engine=""))).generation
        assert made.engine == "fast"
        assert made.receipt.selection.reason == SelectionReason.SELECTION_REASON_FASTEST


async def test_the_configured_default_engine_may_be_a_placeholder(
    start_server: StartServer, tmp_path: Path
) -> None:
    """The configuration names it."""
    server = start_server(
        engines={"model": {"type": "odd"}, "sketch": PLACEHOLDER},
        default_engine="sketch",
        environment=install_odd(tmp_path / "site"),
    )
    async with aio.insecure_channel(server.address) as channel:
        assert await planned(GenerationServiceStub(channel), audio_request(engine="")) == "sketch"


async def test_a_fallback_takes_over_after_a_failure(workshop_stub: Stub) -> None:
    """The first in the chain that can do the task and succeeds; the receipt lists all attempts."""
    request = pb.StreamProgressRequest(generate=audio_request(engine="lame"))
    log = await events_of(workshop_stub, request)
    made = log[-1].generation
    assert (made.state, made.engine) == (State.STATE_SUCCEEDED, "twin")
    attempts = [(tried.engine, OUTCOMES(tried.outcome)) for tried in made.receipt.attempts]
    failed, succeeded = "ATTEMPT_OUTCOME_FAILED", "ATTEMPT_OUTCOME_SUCCEEDED"
    assert attempts == [("lame", failed), ("lamer", failed), ("twin", succeeded)]
    assert [tried.number for tried in made.receipt.attempts] == [1, 2, 3]
    assert made.receipt.attempts[0].failure.reason == "ENGINE_FAILED"
    stages = [timing.stage for timing in made.receipt.timings]
    assert len(set(stages)) == len(stages)  # those of the attempt that succeeded
    engines = list(dict.fromkeys(event.engine for event in log))
    assert engines == ["lame", "lamer", "twin"]
    assert [event.sequence for event in log] == list(range(1, len(log) + 1))


async def test_a_fallback_keeps_the_random_seed(workshop_stub: Stub) -> None:
    """The receipt says that it was defaulted, not requested."""
    made = (await workshop_stub.Generate(audio_request(engine="lame"))).generation
    assert dispositions(made)["seed"] == "defaulted"
    assert receipt_of(made)["seed"].value.string_value == str(made.outputs[0].seed)
    assert list(made.receipt.recipe.seeds) == [made.outputs[0].seed]


async def test_the_outputs_of_a_failed_engine_are_deleted(
    workshop: RunningServer, workshop_stub: Stub
) -> None:
    """It fails after its first image; no file of that stays."""
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
async def test_only_failures_that_are_safe_to_repeat_lead_to_a_fallback(
    workshop_stub: Stub, prompt: str, engine: str
) -> None:
    """A vendor may still work on what timed out; a filtered prompt stays filtered."""
    call = workshop_stub.Generate(image_request(prompt, engine="odder"))
    if engine:
        assert (await call).generation.engine == engine
    else:
        assert (await refusal(call)).metadata["generation_id"]


async def test_an_engine_without_fallbacks_fails(workshop_stub: Stub) -> None:
    """No other engine takes over without being configured."""
    refused = await refusal(workshop_stub.Generate(image_request(engine="lamer")))
    assert refused.reason == "ENGINE_FAILED"
    assert "as configured" in refused.message


async def test_the_receipt_after_a_fallback_describes_the_fallback(
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
    selection = generation.receipt.selection
    assert selection.reason == SelectionReason.SELECTION_REASON_FALLBACK
    assert selection.explanation == "fallback after odder"
