"""Continuation over the wire: what the clip begins with, what the receipt says of it, and what is refused."""

from __future__ import annotations

import io

import grpc
import numpy as np
import pytest
import soundfile

from atelier.v1 import engine_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import (
    DISPOSITION_APPLIED,
    DISPOSITION_DEFAULTED,
    DISPOSITION_IGNORED,
    Generation,
)
from atelier.v1.task_pb2 import AudioTask, MediaSource
from tests.server.calls import Stub
from tests.server.test_audio import parameter
from tests.server.test_init_audio import tone


async def generate(
    stub: Stub, data: bytes, *, seconds: float | None = None, strict: bool = False, **task: object
) -> Generation:
    """What the engine `sketch` makes after the audio."""
    request = pb.GenerateRequest(
        engine="sketch",
        audio=AudioTask(
            prompt="rain",
            init_audio=MediaSource(attachment="it"),
            continuation=True,
            **task,  # type: ignore[arg-type]  # fields by name
        ),
        attachments={"it": data},
        inline_outputs=True,
        strict=strict,
    )
    if seconds is not None:
        request.audio.duration.FromMicroseconds(round(seconds * 1e6))
    return (await stub.Generate(request)).generation


async def test_a_clip_begins_with_the_audio_and_goes_on(stub: Stub) -> None:
    """To the precision of a file of 16 bits, up to the seam; rain is heard after it."""
    data = tone()
    made = await generate(stub, data, seconds=2.0, strict=True)
    samples, rate = soundfile.read(io.BytesIO(made.outputs[0].data))
    given, _ = soundfile.read(io.BytesIO(data))
    assert (rate, len(samples)) == (44100, 88200)
    head = len(given) - 4410
    assert np.abs(samples[:head] - given[:head]).max() <= 2 / 2**15
    assert np.abs(samples[len(given) :]).max() >= 0.01
    told = parameter(made, "continuation")
    assert (told.value.bool_value, told.disposition) == (True, DISPOSITION_APPLIED)


async def test_audio_of_another_rate_is_continued_in_that_of_the_task(stub: Stub) -> None:
    """What it was is heard at the beginning."""
    made = await generate(stub, tone(rate=8000), seconds=1.5, channels=2, sample_rate=48000)
    samples, rate = soundfile.read(io.BytesIO(made.outputs[0].data))
    assert (rate, samples.shape) == (48000, (72000, 2))
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(30000) / 48000)
    assert np.abs(samples[:30000, 1] - wave)[2000:].max() <= 0.002


async def test_without_a_duration_the_default_follows(stub: Stub) -> None:
    """And is told, beside a strength that has no effect."""
    made = await generate(stub, tone(), strength=0.5)
    duration, strength = (parameter(made, name) for name in ("duration", "strength"))
    assert (duration.value.number_value, duration.disposition) == (2.75, DISPOSITION_DEFAULTED)
    assert duration.explanation == "not given: 0.75 s of init_audio, and 2 s more"
    assert strength.disposition == DISPOSITION_IGNORED
    assert strength.explanation == "it has no effect with continuation"


@pytest.mark.parametrize(
    ("length", "seconds", "words"),
    [
        (0.75, 0.8, r"audio\.duration: duration must be at least 0\.85 seconds, not 0\.8"),
        (0.75, 0.5, r"audio\.duration: duration must be at least 0\.85 seconds, not 0\.5"),
        (0.19, 1.0, r"audio\.init_audio: init_audio must have 0\.2 to 599\.9 seconds"),
    ],
)
async def test_what_leaves_nothing_to_make_or_nothing_to_follow_is_refused(
    stub: Stub, length: float, seconds: float, words: str
) -> None:
    """With the numbers."""
    with pytest.raises(grpc.aio.AioRpcError, match=words):
        await generate(stub, tone(length), seconds=seconds)


async def test_it_needs_audio_and_is_no_loop(stub: Stub) -> None:
    """Both are constraints of the contract."""
    alone = pb.GenerateRequest(audio=AudioTask(prompt="rain", continuation=True))
    with pytest.raises(grpc.aio.AioRpcError, match="continuation needs init_audio"):
        await stub.Generate(alone)
    with pytest.raises(grpc.aio.AioRpcError, match="seamless_loop cannot be used with continu"):
        await generate(stub, tone(), seamless_loop=True)


async def test_the_capabilities_name_it(stub: Stub) -> None:
    """Where the engine has it."""
    found = (await stub.GetCapabilities(pb.GetCapabilitiesRequest())).engines[0].audio
    assert engine_pb2.AUDIO_FEATURE_CONTINUATION in found.features
