"""Audio-to-audio over the wire: what the task begins with, what the receipt says of it, and what is refused."""

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
    DISPOSITION_CLAMPED,
    DISPOSITION_DEFAULTED,
    DISPOSITION_IGNORED,
    Generation,
)
from atelier.v1.task_pb2 import AudioTask, MediaSource
from tests.server.calls import Stub
from tests.server.test_audio import parameter


def tone(seconds: float = 0.75, rate: int = 44100) -> bytes:
    """A file of 440 Hz, in mono."""
    file = io.BytesIO()
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    soundfile.write(file, wave, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


async def generate(
    stub: Stub, data: bytes, *, seconds: float | None = None, strict: bool = False, **task: object
) -> Generation:
    """What the engine `sketch` makes of the audio."""
    request = pb.GenerateRequest(
        engine="sketch",
        audio=AudioTask(prompt="rain", init_audio=MediaSource(attachment="it"), **task),  # type: ignore[arg-type]  # fields by name
        attachments={"it": data},
        inline_outputs=True,
        strict=strict,
    )
    if seconds is not None:
        request.audio.duration.FromMicroseconds(round(seconds * 1e6))
    return (await stub.Generate(request)).generation


async def test_the_task_is_as_long_as_its_audio_and_strength_0_keeps_it(stub: Stub) -> None:
    """To the precision of a file of 16 bits; both are told."""
    data = tone()
    made = await generate(stub, data, strength=0.0)
    samples, rate = soundfile.read(io.BytesIO(made.outputs[0].data))
    expected, _ = soundfile.read(io.BytesIO(data))
    assert (rate, samples.shape) == (44100, expected.shape)
    assert np.abs(samples - expected).max() <= 2 / 2**15
    duration, strength = (parameter(made, name) for name in ("duration", "strength"))
    assert (duration.value.number_value, duration.disposition) == (0.75, DISPOSITION_DEFAULTED)
    assert duration.explanation == "not given: that of init_audio"
    assert (strength.value.number_value, strength.disposition) == (0.0, DISPOSITION_APPLIED)


async def test_audio_of_another_rate_is_resampled(stub: Stub) -> None:
    """And mixed into the channels that the engine makes."""
    made = await generate(stub, tone(rate=8000), strength=0.0, channels=2, sample_rate=48000)
    samples, rate = soundfile.read(io.BytesIO(made.outputs[0].data))
    assert (rate, samples.shape) == (48000, (36000, 2))
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(36000) / 48000)
    assert np.abs(samples[:, 1] - wave)[2000:-2000].max() <= 0.002


async def test_audio_beyond_the_duration_is_left_out_and_told(stub: Stub) -> None:
    """CLAMPED, and refused for strict requests; shorter audio is no change."""
    made = await generate(stub, tone(), seconds=0.5)
    told = parameter(made, "init_audio")
    assert (told.value.number_value, told.requested.number_value) == (0.5, 0.75)
    assert told.disposition == DISPOSITION_CLAMPED
    with pytest.raises(grpc.aio.AioRpcError, match=r"first 0\.5 s of its 0\.75 s are used"):
        await generate(stub, tone(), seconds=0.5, strict=True)
    made = await generate(stub, tone(), seconds=1.0, strict=True)
    assert made.outputs[0].audio.samples == 44100
    assert not [entry for entry in made.receipt.parameters if entry.name == "init_audio"]


async def test_the_default_strength_is_told_and_one_without_audio_is_ignored(stub: Stub) -> None:
    """With the reason."""
    told = parameter(await generate(stub, tone()), "strength")
    assert (told.value.number_value, told.disposition) == (0.75, DISPOSITION_DEFAULTED)
    request = pb.GenerateRequest(engine="sketch", audio=AudioTask(prompt="rain", strength=0.5))
    told = parameter((await stub.Generate(request)).generation, "strength")
    assert told.disposition == DISPOSITION_IGNORED
    assert told.explanation == "it has no effect without init_audio"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (MediaSource(attachment="it"), "audio.init_audio: not WAV, FLAC"),
        (MediaSource(attachment="that"), "audio.init_audio.attachment: .*no attachment 'that'"),
        (MediaSource(uri="https://example.org/a.wav"), "audio.init_audio.uri: .*does not fetch"),
        (MediaSource(uri="data:,"), "audio.init_audio.uri: the data URI has no data"),
    ],
)
async def test_what_is_no_audio_is_refused_by_the_name_of_its_field(
    stub: Stub, source: MediaSource, words: str
) -> None:
    """Before anything is accepted."""
    request = pb.GenerateRequest(engine="sketch", audio=AudioTask(prompt="rain", init_audio=source))
    request.attachments["it"] = b"\x89PNG\r\n\x1a\n"
    with pytest.raises(grpc.aio.AioRpcError, match=words):
        await stub.Generate(request)


async def test_the_capabilities_say_how_long_it_may_be(stub: Stub) -> None:
    """Where the engine has the feature."""
    found = (await stub.GetCapabilities(pb.GetCapabilitiesRequest())).engines[0].audio
    assert engine_pb2.AUDIO_FEATURE_AUDIO_TO_AUDIO in found.features
    assert found.max_init_audio_seconds == 600
