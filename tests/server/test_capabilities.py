"""GetCapabilities: every engine as it is, and what the service takes."""

from __future__ import annotations

from google.protobuf.json_format import MessageToDict
from jsonschema import Draft202012Validator

from atelier.v1 import engine_pb2, task_pb2
from atelier.v1 import generation_service_pb2 as pb
from tests.server.calls import Stub, events_of, image_request, on_acceptance, slow_request


async def engines_of(stub: Stub) -> dict[str, engine_pb2.Engine]:
    """All engines by name."""
    answer = await stub.GetCapabilities(pb.GetCapabilitiesRequest())
    return {engine.name: engine for engine in answer.engines}


async def test_the_service_says_what_it_takes(workshop_stub: Stub) -> None:
    """Engines in the order of the configuration, the default, its version, its limits."""
    answer = await workshop_stub.GetCapabilities(pb.GetCapabilitiesRequest())
    assert [engine.name for engine in answer.engines][:3] == ["dear", "sketch", "twin"]
    assert answer.default_engine == "dear"
    assert answer.version
    assert (answer.max_inline_bytes, answer.max_upload_bytes) == (2 * 2**20, 256 * 2**20)


async def test_one_engine_can_be_asked_for(workshop_stub: Stub) -> None:
    """By its name."""
    answer = await workshop_stub.GetCapabilities(pb.GetCapabilitiesRequest(engine="odd"))
    assert [engine.name for engine in answer.engines] == ["odd"]


async def test_limits_are_those_that_hold(workshop_stub: Stub) -> None:
    """Ranges with defaults and grid, features, formats."""
    engines = await engines_of(workshop_stub)
    image = engines["sketch"].image
    assert (image.width.min, image.width.max, image.width.default) == (16, 4096, 512)
    assert (image.max_images, image.width.multiple_of) == (16, 1)
    assert engine_pb2.IMAGE_FEATURE_IMAGE_TO_IMAGE in image.features
    assert list(image.formats) == task_pb2.ImageFormat.values()[1:]
    assert list(engines["sketch"].audio.formats) == task_pb2.AudioFormat.values()[1:]
    assert list(engines["sketch"].audio.sample_rates) == [44100, 48000, 16000]
    odd = engines["odd"]
    assert not odd.HasField("audio")
    assert (odd.image.width.multiple_of, odd.image.max_pixels) == (64, 8192)
    assert not odd.image.HasField("steps")
    assert engine_pb2.IMAGE_FEATURE_SEED not in odd.image.features


async def test_options_have_a_schema(workshop_stub: Stub) -> None:
    """A valid one, which names every option."""
    engine = (await engines_of(workshop_stub))["sketch"]
    schema = MessageToDict(engine.options_schema)
    Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == {"delay_seconds", "fail", "hang", "font_size"}


async def test_engines_say_how_they_stand(workshop_stub: Stub) -> None:
    """State and why, price, how work is cancelled, who takes over."""
    engines = await engines_of(workshop_stub)
    states = {name: (engine.state, engine.state_message) for name, engine in engines.items()}
    assert states["sketch"] == (engine_pb2.ENGINE_STATE_READY, "")
    assert states["loading"] == (engine_pb2.ENGINE_STATE_LOADING, "starting")
    assert states["absent"][0] == engine_pb2.ENGINE_STATE_UNAVAILABLE
    assert "/models" in states["absent"][1]
    dear, odder, lame = engines["dear"], engines["odder"], engines["lame"]
    assert (dear.price.amount, dear.price.unit) == (0.5, engine_pb2.PRICE_UNIT_IMAGE)
    assert (odder.price.currency, odder.price.unit) == ("EUR", engine_pb2.PRICE_UNIT_SECOND)
    assert not engines["sketch"].HasField("price")
    assert odder.cancel_support == engine_pb2.CANCEL_SUPPORT_REMOTE
    assert list(lame.fallbacks) == ["lamer", "odd", "twin"]


async def test_the_load_is_told(workshop_stub: Stub) -> None:
    """What runs, what waits, and what the measured time makes of it."""
    await workshop_stub.Generate(slow_request(0.2, engine="narrow"))
    ids = []
    for _ in range(2):
        made = await workshop_stub.Generate(on_acceptance(slow_request(engine="narrow")))
        ids.append(made.generation.id)
    async for event in workshop_stub.StreamProgress(pb.StreamProgressRequest(generation_id=ids[0])):
        if event.step:
            break
    load = (await engines_of(workshop_stub))["narrow"].load
    assert (load.running, load.queued, load.concurrency) == (1, 1, 1)
    assert load.service_time.ToMicroseconds() > 0
    assert not load.HasField("backlog")  # nothing like these has ended there
    for generation_id in reversed(ids):
        await workshop_stub.CancelGeneration(
            pb.CancelGenerationRequest(generation_id=generation_id)
        )
    watch = pb.StreamProgressRequest(generate=image_request(engine="narrow"))
    assert (await events_of(workshop_stub, watch))[-1].generation.outputs
