"""Errors: the code, the reason, the fields, when to try again, and words that say what to change."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import State
from atelier.v1.task_pb2 import CONTROL_TYPE_CANNY, Control, Lora, MediaSource
from tests.conftest import RunningServer
from tests.server.calls import (
    Stub,
    audio_request,
    events_of,
    image_request,
    on_acceptance,
    refusal,
    send_bytes,
    slow_request,
)
from tests.server.third_party.atelier_odd import PRIVATE

Code = grpc.StatusCode


@pytest.mark.parametrize(
    ("request_", "field", "words"),
    [
        (image_request(task={"width": 8}), "image.width", "greater than or equal to 16"),
        (image_request(task={"width": 4160}), "image.width", "16 to 4096, not 4160"),
        (image_request(""), "image", "prompt is required"),
        (image_request(request_id="a b"), "request_id", "pattern"),
        (pb.GenerateRequest(engine="sketch"), "task", "required"),
        (
            image_request(options={"font_size": 1}),
            "options.font_size",
            "less than the minimum of 6",
        ),
        (image_request(options={"colour": 1}), "options.colour", "it has delay_seconds"),
        (image_request(options={"delay_seconds": float("nan")}), "options", "finite"),
        (image_request(timeout_seconds=0), "timeout", "greater than 0s"),
        (image_request(task={"num_images": 17}), "image.num_images", "at most 16, not 17"),
        (image_request(task={"seed": 2**63}), "image.seed", "less than or equal to"),
        (image_request(task={"style": "unheard"}), "image.style", "unheard"),
        (audio_request(seconds=601), "audio.duration", "0.1 to 600"),
        (audio_request(""), "audio.prompt", "at least 1"),
        (audio_request("rain\0 and wind"), "audio.prompt", "must not contain NUL"),
        (image_request("a lamp\0"), "image.prompt", "must not contain NUL"),
        (
            image_request(task={"negative_prompt": "\0"}),
            "image.negative_prompt",
            "must not contain NUL",
        ),
    ],
)
async def test_a_wrong_field_is_named(
    stub: Stub, request_: pb.GenerateRequest, field: str, words: str
) -> None:
    """INVALID_ARGUMENT, with the path of the field and what it must be."""
    refused = await refusal(stub.Generate(request_))
    assert (refused.code, refused.reason) == (Code.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert refused.domain == "atelier"
    assert words in " ".join([refused.message, *refused.fields.values()])
    assert field in refused.fields
    assert (refused.retry_seconds, refused.pushback_ms) == (None, None)


async def test_fields_are_named_from_the_top_of_the_request(stub: Stub) -> None:
    """Inside `generate` where the request lies there, whoever finds them wrong."""
    for wrong in ({"width": 8}, {"width": 4160}):
        request = image_request(task=wrong)
        stream = stub.StreamProgress(pb.StreamProgressRequest(generate=request))
        assert "generate.image.width" in (await refusal(stream.read())).fields
        plan = stub.PlanGeneration(pb.PlanGenerationRequest(generate=request))
        assert "generate.image.width" in (await refusal(plan)).fields


async def test_every_wrong_field_is_named_at_once(stub: Stub) -> None:
    """Callers need not mend one after the other."""
    task = {
        "width": 8,
        "steps": 0,
        "loras": [Lora(name="")],
        "controls": [Control(type=CONTROL_TYPE_CANNY, image=MediaSource(uri="no address"))],
    }
    refused = await refusal(stub.Generate(image_request(task=task)))
    expected = {"image.width", "image.steps", "image.loras[0].name", "image.controls[0].image.uri"}
    assert expected <= set(refused.fields)


async def test_an_error_fits_into_trailers_whatever_it_quotes(stub: Stub) -> None:
    """Clients refuse trailers above 8 KiB, and would say so instead of what is wrong."""
    options = {f"{number}{'心' * 1000}": 1 for number in range(50)}
    refused = await refusal(stub.Generate(image_request(options=options)))
    assert (refused.code, refused.reason) == (Code.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert refused.message.startswith("options.")


async def test_an_unknown_engine_names_the_known(workshop_stub: Stub) -> None:
    """NOT_FOUND, for every call that takes the name of an engine."""
    calls = (
        workshop_stub.Generate(image_request(engine="skech")),
        workshop_stub.GetCapabilities(pb.GetCapabilitiesRequest(engine="skech")),
    )
    for call in calls:
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (Code.NOT_FOUND, "UNKNOWN_ENGINE")
        assert "'skech'" in refused.message
        assert "sketch" in refused.message


async def test_what_is_unknown_is_not_found(stub: Stub) -> None:
    """Generations and artifacts, by whatever call."""
    image = {"init_image": MediaSource(artifact_id="nothing")}
    calls = (
        stub.GetGeneration(pb.GetGenerationRequest(generation_id="nothing")),
        stub.CancelGeneration(pb.CancelGenerationRequest(generation_id="nothing")),
        stub.StreamProgress(pb.StreamProgressRequest(generation_id="nothing")).read(),
        stub.DownloadArtifact(pb.DownloadArtifactRequest(artifact_id="nothing")).read(),
        stub.Generate(image_request(task=image)),
    )
    refusals = [await refusal(call) for call in calls]
    for refused in refusals:
        assert (refused.code, refused.reason) == (Code.NOT_FOUND, "NOT_FOUND")
        assert "'nothing'" in refused.message
    assert "image.init_image.artifact_id" in refusals[-1].message


async def test_a_lacking_engine_names_those_that_can(workshop_stub: Stub) -> None:
    """FAILED_PRECONDITION, with the feature and the engines for programs too."""
    refused = await refusal(workshop_stub.Generate(audio_request(engine="odd")))
    assert (refused.code, refused.reason) == (Code.FAILED_PRECONDITION, "UNSUPPORTED")
    assert refused.metadata["feature"] == "audio"
    assert {"dear", "sketch", "twin"} <= set(refused.metadata["engines"].split(","))
    assert "twin" in refused.message


async def test_what_nobody_can_do_is_said(workshop_stub: Stub) -> None:
    """The message does not send the caller in search of an engine."""
    refused = await refusal(
        workshop_stub.Generate(image_request(task={"loras": [Lora(name="ink")]}))
    )
    assert (refused.code, refused.metadata["feature"]) == (Code.FAILED_PRECONDITION, "LORA")
    assert "no engine of this server" in refused.message


@pytest.mark.parametrize(
    ("engine", "words"), [("absent", "weights"), ("broken", "log"), ("loading", "starting")]
)
async def test_an_engine_that_cannot_work_says_when_to_try_again(
    workshop_stub: Stub, engine: str, words: str
) -> None:
    """UNAVAILABLE, with RetryInfo; for a short delay also the pushback that client libraries heed."""
    refused = await refusal(workshop_stub.Generate(image_request(engine=engine)))
    assert (refused.code, refused.reason) == (Code.UNAVAILABLE, "ENGINE_UNAVAILABLE")
    assert words in refused.message
    assert PRIVATE not in refused.message
    seconds = refused.retry_seconds
    assert seconds is not None
    assert 1 <= seconds <= 60  # the start is tried again after a minute at most
    assert refused.pushback_ms == ("-1" if seconds > 10 else str(int(seconds * 1000)))
    assert (seconds == 1) or engine != "loading"


async def test_a_full_queue_says_when_to_try_again(workshop_stub: Stub) -> None:
    """UNAVAILABLE; what waits already is left alone."""
    running = (
        await workshop_stub.Generate(on_acceptance(slow_request(engine="narrow")))
    ).generation
    attach = pb.StreamProgressRequest(generation_id=running.id)
    async for event in workshop_stub.StreamProgress(attach):
        if event.state == State.STATE_RUNNING:
            break
    waiting = [
        (await workshop_stub.Generate(on_acceptance(slow_request(engine="narrow")))).generation
        for _ in "ab"
    ]
    refused = await refusal(workshop_stub.Generate(image_request(engine="narrow")))
    assert (refused.code, refused.reason) == (Code.UNAVAILABLE, "QUEUE_FULL")
    assert (refused.retry_seconds, refused.pushback_ms) == (1.0, "1000")
    assert "2 generations wait" in refused.message
    for generation in (*waiting, running):
        await workshop_stub.CancelGeneration(
            pb.CancelGenerationRequest(generation_id=generation.id)
        )


@pytest.mark.parametrize(
    ("prompt", "reason", "code", "retried", "words"),
    [
        ("filtered", "CONTENT_FILTERED", Code.FAILED_PRECONDITION, False, "change it"),
        ("memory", "OUT_OF_MEMORY", Code.RESOURCE_EXHAUSTED, False, "at most 64 x 64 fits"),
        ("quota", "ENGINE_QUOTA", Code.RESOURCE_EXHAUSTED, True, "top it up"),
        ("away", "ENGINE_UNAVAILABLE", Code.UNAVAILABLE, True, "cannot be reached"),
        ("late", "ENGINE_TIMEOUT", Code.DEADLINE_EXCEEDED, True, "too long"),
        ("missing", "MODEL_MISSING", Code.FAILED_PRECONDITION, False, "/models"),
        ("nothing", "ENGINE_FAILED", Code.ABORTED, True, "without an output"),
        ("backwards", "ENGINE_FAILED", Code.ABORTED, True, "from step 2 to 1"),
    ],
)
async def test_an_engines_failure_reaches_the_caller(  # noqa: PLR0917 (one row of the table)
    workshop_stub: Stub,
    prompt: str,
    reason: str,
    code: grpc.StatusCode,
    retried: bool,  # noqa: FBT001 (a column of the table)
    words: str,
) -> None:
    """With its own words; the call is not repeated by client libraries, who would find the same end."""
    request = image_request(prompt, engine="odd", request_id=f"fails-{prompt}")
    refused = await refusal(workshop_stub.Generate(request))
    assert (refused.code, refused.reason) == (code, reason)
    assert words in refused.message
    assert (refused.retry_seconds is not None, refused.pushback_ms) == (retried, "-1")
    found = await workshop_stub.GetGeneration(
        pb.GetGenerationRequest(generation_id=refused.metadata["generation_id"])
    )
    failure = found.generation.failure
    assert (found.generation.state, failure.reason) == (State.STATE_FAILED, reason)
    assert (failure.code, failure.retryable) == (code.value[0], retried)


@pytest.mark.parametrize("prompt", ["key error", "stop", "no image"])
async def test_what_nobody_foresaw_is_hidden_and_logged(
    workshop: RunningServer, workshop_stub: Stub, prompt: str
) -> None:
    """The caller learns that it failed, the log why."""
    refused = await refusal(workshop_stub.Generate(image_request(prompt, engine="odd")))
    assert refused.code in {Code.ABORTED, Code.INTERNAL}
    assert "log" in refused.message
    assert PRIVATE not in str(refused)
    generation = refused.metadata["generation_id"]
    lines = [line for line in workshop.log_lines() if line.get("generation") == generation]
    assert any("Traceback" in line.get("exception", "") for line in lines)


async def test_a_failed_stream_ends_with_the_failure_and_no_error(workshop_stub: Stub) -> None:
    """The call did its work: it told how the generation ended."""
    request = pb.StreamProgressRequest(generate=image_request("memory", engine="odd"))
    last = (await events_of(workshop_stub, request))[-1]
    assert last.generation.failure.reason == "OUT_OF_MEMORY"


@pytest.mark.parametrize("method", ["Generate", "StreamProgress", "UploadArtifact", "Health"])
async def test_bytes_that_are_no_message_are_refused(server: RunningServer, method: str) -> None:
    """INVALID_ARGUMENT, and no traceback in the log for what anybody can send."""
    async with aio.insecure_channel(server.address) as channel:
        refused = await refusal(send_bytes(channel, method, b"\xff\xff"))
    assert (refused.code, refused.reason) == (Code.INVALID_ARGUMENT, "INVALID_REQUEST")


async def test_an_unknown_method_is_unimplemented(server: RunningServer) -> None:
    """As gRPC has it. A streaming call could still be sending when it is answered, and fail by that."""
    async with aio.insecure_channel(server.address) as channel:
        paint: Any = channel.unary_unary("/atelier.v1.GenerationService/Paint")
        with pytest.raises(aio.AioRpcError) as caught:
            await paint(b"")
    assert caught.value.code() is Code.UNIMPLEMENTED
