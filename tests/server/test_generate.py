"""Generate: from a request to the outputs and the receipt."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncGenerator
from contextlib import aclosing

import grpc
import numpy as np
import pytest
import soundfile
from grpc import aio
from PIL import Image

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1 import task_pb2
from atelier.v1.engine_pb2 import REPRODUCIBILITY_BIT_EXACT
from atelier.v1.generation_pb2 import AttemptOutcome, State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import StartServer
from tests.server.calls import (
    Stub,
    audio_request,
    dispositions,
    image_request,
    on_acceptance,
    receipt_of,
    refusal,
    slow_request,
)


async def test_a_task_runs_to_completion(stub: Stub) -> None:
    """The response holds the finished generation."""
    made = (await stub.Generate(image_request(task={"seed": 7}))).generation
    assert made.state == State.STATE_SUCCEEDED
    assert (made.engine, made.image.prompt, made.image.seed) == ("sketch", "a lighthouse", 7)
    assert made.request_id.endswith(f".{made.id}")
    times = [made.create_time, made.start_time, made.end_time, made.expire_time]
    assert times == sorted(times, key=lambda time: time.ToMicroseconds())
    (output,) = made.outputs
    assert (output.seed, output.data, output.artifact.media_type) == (7, b"", "image/png")
    assert (output.artifact.image_size.width, output.artifact.image_size.height) == (64, 64)


async def test_generate_can_respond_on_acceptance(stub: Stub) -> None:
    """The response comes while the generation waits, and it runs without a caller."""
    accepted = (await stub.Generate(on_acceptance(slow_request(0.2)))).generation
    assert accepted.state == State.STATE_QUEUED
    watch = stub.StreamProgress(pb.StreamProgressRequest(generation_id=accepted.id))
    assert [event async for event in watch][-1].state == State.STATE_SUCCEEDED


async def test_outputs_are_inlined_on_request(stub: Stub) -> None:
    """Their bytes match size and digest."""
    (output,) = (await stub.Generate(image_request(inline_outputs=True))).generation.outputs
    assert len(output.data) == output.artifact.size
    assert hashlib.sha256(output.data).hexdigest() == output.artifact.sha256


async def test_the_inline_limit_counts_all_outputs_of_a_response(start_server: StartServer) -> None:
    """As many outputs are inlined as fit together; the others must be downloaded."""
    engines = {"sketch": {"type": "sketch", "output_bytes": 10_000}}
    server = start_server(engines=engines, limits={"max_inline_bytes": 25_000})
    async with aio.insecure_channel(server.address) as channel:
        made = await GenerationServiceStub(channel).Generate(
            image_request(task={"num_images": 4}, inline_outputs=True)
        )
    outputs = made.generation.outputs
    assert [len(output.data) for output in outputs] == [10_000, 10_000, 0, 0]
    assert [output.artifact.size for output in outputs] == [10_000] * 4


async def test_outputs_above_the_limit_are_not_inlined(stub: Stub) -> None:
    """Audio of more than 2 MiB must be downloaded."""
    request = audio_request(seconds=15, task={"channels": 2, "steps": 1}, inline_outputs=True)
    (output,) = (await stub.Generate(request)).generation.outputs
    assert output.artifact.size > 2 * 2**20
    assert output.data == b""


@pytest.mark.parametrize(
    ("asked", "media_type", "name"),
    [
        (task_pb2.IMAGE_FORMAT_PNG, "image/png", "PNG"),
        (task_pb2.IMAGE_FORMAT_WEBP, "image/webp", "WEBP"),
        (task_pb2.IMAGE_FORMAT_JPEG, "image/jpeg", "JPEG"),
        (task_pb2.IMAGE_FORMAT_AVIF, "image/avif", "AVIF"),
    ],
)
async def test_images_have_the_requested_format(
    stub: Stub, asked: task_pb2.ImageFormat.ValueType, media_type: str, name: str
) -> None:
    """The media type and the bytes agree."""
    made = await stub.Generate(image_request(task={"format": asked}, inline_outputs=True))
    (output,) = made.generation.outputs
    with Image.open(io.BytesIO(output.data)) as image:
        assert (image.format, image.size) == (name, (64, 64))
    assert output.artifact.media_type == media_type


@pytest.mark.parametrize(
    ("asked", "media_type", "name"),
    [
        (task_pb2.AUDIO_FORMAT_WAV, "audio/wav", "WAV"),
        (task_pb2.AUDIO_FORMAT_FLAC, "audio/flac", "FLAC"),
        (task_pb2.AUDIO_FORMAT_OGG, "audio/ogg", "OGG"),
    ],
)
async def test_audio_has_the_requested_format(
    stub: Stub, asked: task_pb2.AudioFormat.ValueType, media_type: str, name: str
) -> None:
    """And the requested duration, sample rate and channels."""
    task = {"format": asked, "sample_rate": 48000, "channels": 2}
    made = await stub.Generate(audio_request(seconds=0.5, task=task, inline_outputs=True))
    (output,) = made.generation.outputs
    heard = soundfile.info(io.BytesIO(output.data))
    assert (heard.format, heard.samplerate, heard.channels, heard.frames) == (name, 48000, 2, 24000)
    assert output.artifact.media_type == media_type


async def test_a_long_vorbis_output_does_not_crash_the_server(stub: Stub) -> None:
    """Encoding a minute of samples in one call would overflow the codec's stack."""
    task = {"format": task_pb2.AUDIO_FORMAT_OGG, "sample_rate": 16000, "steps": 1}
    made = (
        await stub.Generate(audio_request(seconds=60, task=task, inline_outputs=True))
    ).generation
    assert soundfile.info(io.BytesIO(made.outputs[0].data)).frames == 60 * 16000


async def test_the_images_of_a_task_have_consecutive_seeds(stub: Stub) -> None:
    """Image n uses seed + n, and equals the image of a task with that seed alone."""
    made = (
        await stub.Generate(image_request(task={"num_images": 3, "seed": 5}, inline_outputs=True))
    ).generation
    assert [output.seed for output in made.outputs] == [5, 6, 7]
    alone = (await stub.Generate(image_request(task={"seed": 6}, inline_outputs=True))).generation
    assert made.outputs[1].data == alone.outputs[0].data


async def test_the_same_seed_gives_the_same_bytes(stub: Stub) -> None:
    """Another seed gives other bytes; without a seed a random one is used and is in the receipt."""
    requests = [image_request(task={"seed": seed}, inline_outputs=True) for seed in (1, 1, 2)]
    first, again, other = [(await stub.Generate(request)).generation for request in requests]
    assert first.outputs[0].data == again.outputs[0].data != other.outputs[0].data
    drawn = (await stub.Generate(image_request(inline_outputs=True))).generation
    seed = int(receipt_of(drawn)["seed"].value.string_value)
    assert drawn.outputs[0].seed == seed
    repeated = await stub.Generate(image_request(task={"seed": seed}, inline_outputs=True))
    assert repeated.generation.outputs[0].data == drawn.outputs[0].data


async def test_the_same_seed_gives_the_same_audio(stub: Stub) -> None:
    """The samples are equal, and not silence."""
    request = audio_request(task={"seed": 3}, inline_outputs=True)
    first, again = [(await stub.Generate(request)).generation.outputs[0] for _ in range(2)]
    assert first.data == again.data
    samples, _ = soundfile.read(io.BytesIO(first.data))
    assert np.abs(samples).max() > 0.01


async def test_the_receipt_lists_every_parameter(stub: Stub) -> None:
    """Applied, defaulted, clamped and ignored, each with the requested value and an explanation."""
    task = {"guidance": 99.0, "strength": 0.5, "steps": 3}
    made = (await stub.Generate(image_request(task=task))).generation
    how = dispositions(made)
    assert how["steps"] == how["width"] == how["height"] == "applied"
    assert how["seed"] == how["num_images"] == "defaulted"
    guidance = receipt_of(made)["guidance"]
    assert (how["guidance"], guidance.value.number_value) == ("clamped", 20)
    assert guidance.requested.number_value == 99
    assert "0 to 20" in guidance.explanation
    strength = receipt_of(made)["strength"]
    assert (how["strength"], strength.requested.number_value) == ("ignored", 0.5)
    assert not strength.HasField("value")
    assert "init_image" in strength.explanation


async def test_a_layer_of_text_encoders_is_refused_where_there_is_no_choice(stub: Stub) -> None:
    """In the receipt, or by a strict request."""
    made = (await stub.Generate(image_request(task={"clip_skip": 2}))).generation
    assert dispositions(made)["clip_skip"] == "ignored"
    refused = await refusal(stub.Generate(image_request(task={"clip_skip": 2}, strict=True)))
    assert set(refused.fields) == {"image.clip_skip"}


async def test_the_receipt_lists_attempts_timings_and_recipe(stub: Stub) -> None:
    """How the generation was executed, and what is needed to repeat it."""
    receipt = (
        await stub.Generate(image_request(task={"seed": 9, "num_images": 2}))
    ).generation.receipt
    (attempt,) = receipt.attempts
    assert (attempt.number, attempt.engine) == (1, "sketch")
    assert attempt.outcome == AttemptOutcome.ATTEMPT_OUTCOME_SUCCEEDED
    assert [timing.stage for timing in receipt.timings] == ["prepare", "draw", "encode"]
    assert receipt.reproducibility == REPRODUCIBILITY_BIT_EXACT
    assert (receipt.recipe.engine_type, list(receipt.recipe.seeds)) == ("sketch", [9, 10])
    assert set(receipt.recipe.versions) == {"numpy", "pillow"}
    assert not receipt.HasField("cost")


async def test_a_strict_request_is_never_changed(stub: Stub) -> None:
    """What would be clamped or ignored is an error that names each field; other requests run."""
    task = {"guidance": 99.0, "strength": 0.5}
    refused = await refusal(stub.Generate(image_request(task=task, strict=True)))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert set(refused.fields) == {"image.guidance", "image.strength"}
    made = await stub.Generate(image_request(task={"guidance": 9.0}, strict=True))
    assert made.generation.state == State.STATE_SUCCEEDED


async def test_a_strict_request_without_a_seed_runs_on_an_engine_without_seeds(
    workshop_stub: Stub,
) -> None:
    """A random seed is not a requested seed."""
    made = (await workshop_stub.Generate(image_request(engine="album", strict=True))).generation
    assert made.state == State.STATE_SUCCEEDED
    assert dispositions(made)["seed"] == "defaulted"
    assert receipt_of(made)["seed"].value.string_value == str(made.outputs[0].seed)
    refused = await refusal(
        workshop_stub.Generate(image_request(engine="album", task={"seed": 1}, strict=True))
    )
    assert set(refused.fields) == {"image.seed"}


async def test_the_same_request_id_is_the_same_generation(stub: Stub) -> None:
    """Also with concurrent requests, and with another response mode."""
    request = slow_request(0.2, request_id="order-1")
    answers = await asyncio.gather(*(stub.Generate(request) for _ in range(8)))
    assert len({answer.generation.id for answer in answers}) == 1
    request.inline_outputs = True
    again = (await stub.Generate(request)).generation
    assert (again.id, again.request_id) == (answers[0].generation.id, "order-1")
    assert again.outputs[0].data


async def test_a_request_id_cannot_be_reused_for_another_task(stub: Stub) -> None:
    """The second task is rejected, and the error says what to change."""
    await stub.Generate(image_request(request_id="order-2"))
    refused = await refusal(stub.Generate(image_request("a ship", request_id="order-2")))
    assert refused.code is grpc.StatusCode.ALREADY_EXISTS
    assert refused.reason == "REQUEST_ID_REUSED"
    assert "order-2" in refused.message


async def left_behind(stub: Stub, request: pb.GenerateRequest) -> AsyncGenerator[State.ValueType]:
    """The final states of generations whose callers disconnected at any moment of acceptance."""
    name = request.request_id
    calls: list[aio.UnaryUnaryCall[pb.GenerateRequest, pb.GenerateResponse]] = []
    for number in range(60):
        request.request_id = f"{name}-{number}"
        calls.append(stub.Generate(request))
        await asyncio.sleep(0.0003 * (number % 12))
        calls[-1].cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    listed = (await stub.ListGenerations(pb.ListGenerationsRequest(page_size=100))).generations
    for left in listed:
        if left.request_id.startswith(name):
            yield await _wait_end(stub, left.id)


async def _wait_end(stub: Stub, generation_id: str) -> State.ValueType:
    """The final state, without attaching to the generation: that would take it over."""
    while True:
        request = pb.GetGenerationRequest(generation_id=generation_id)
        generation = (await stub.GetGeneration(request)).generation
        if generation.HasField("end_time"):
            return generation.state
        await asyncio.sleep(0.01)


async def test_a_caller_that_disconnects_during_acceptance_cancels_the_generation(
    stub: Stub,
) -> None:
    """Whenever it disconnects, the generation is cancelled or was never accepted."""
    async with aclosing(left_behind(stub, slow_request(5, request_id="hasty"))) as states:
        assert {state async for state in states} <= {State.STATE_CANCELLED}


async def test_a_generation_accepted_without_waiting_runs_though_its_caller_disconnected(
    stub: Stub,
) -> None:
    """Whenever it disconnected, an accepted generation was executed."""
    request = on_acceptance(image_request(task={"steps": 1}, request_id="generous"))
    async with aclosing(left_behind(stub, request)) as states:
        assert {state async for state in states} == {State.STATE_SUCCEEDED}
