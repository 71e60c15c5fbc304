"""Audio tasks over the wire: what the server does with the samples of an engine, and what the receipt says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from atelier.v1 import engine_pb2, task_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import (
    DISPOSITION_APPLIED,
    DISPOSITION_CLAMPED,
    DISPOSITION_EMULATED,
    Generation,
    Parameter,
)
from tests.artifacts.audio.ffmpeg import hear, measure
from tests.artifacts.audio.test_audio_files import FORMATS
from tests.server.calls import Stub, audio_request


async def generate(stub: Stub, seconds: float = 0.5, **task: Any) -> Generation:  # noqa: ANN401 (fields of a task)
    """An audio clip, with its bytes."""
    strict = task.pop("strict", False)
    request = audio_request(seconds=seconds, task=task, inline_outputs=True, strict=strict)
    return (await stub.Generate(request)).generation


def parameter(generation: Generation, name: str) -> Parameter:
    """What the receipt says of a parameter."""
    return next(entry for entry in generation.receipt.parameters if entry.name == name)


@pytest.mark.parametrize("suffix", FORMATS)
async def test_every_format_has_exactly_what_was_asked_for(
    stub: Stub, tmp_path: Path, suffix: str
) -> None:
    """At a rate that the engine does not make; and in Opus, which has not the engine's rate, with the next one."""
    path = tmp_path / f"audio.{suffix}"
    for rate in (48000, None):
        asked = {} if rate is None else {"sample_rate": rate}
        made = await generate(stub, 0.75, format=FORMATS[suffix], channels=2, **asked)
        path.write_bytes(made.outputs[0].data)
        heard = hear(path)
        expected = rate or (48000 if suffix == "opus" else 44100)
        assert (heard.sample_rate, heard.array.shape) == (expected, (0.75 * expected, 2))
        told = made.outputs[0].audio
        assert (told.samples, told.sample_rate, told.channels) == (0.75 * expected, expected, 2)
        assert parameter(made, "sample_rate").value.number_value == expected


async def test_the_waveform_is_shown_while_it_is_made(stub: Stub) -> None:
    """Every so many steps, as a small image; and only where that is asked for."""
    for interval, expected in ((2, [2, 4]), (0, []), (None, [])):
        asked = {} if interval is None else {"preview_interval": interval}
        request = pb.StreamProgressRequest(generate=audio_request(task={"steps": 4, **asked}))
        events = [event async for event in stub.StreamProgress(request)]
        shown = [event for event in events if event.HasField("preview")]
        assert [event.step for event in shown] == expected
        for event in shown:
            assert event.preview.media_type == "image/jpeg"
            assert (event.preview.size.width, event.preview.size.height) == (256, 64)
            assert len(event.preview.data) < 8000


async def test_loudness_is_set_and_told(stub: Stub, tmp_path: Path) -> None:
    """EMULATED; where true peaks limit it, CLAMPED to what it has, and refused for strict requests."""
    path = tmp_path / "audio.wav"
    made = await generate(stub, 2.0, loudness_lufs=-23.0, channels=2)
    path.write_bytes(made.outputs[0].data)
    assert abs(measure(path)[0] + 23.0) <= 0.5
    assert parameter(made, "loudness_lufs").disposition == DISPOSITION_EMULATED
    made = await generate(stub, 2.0, loudness_lufs=0.0)
    path.write_bytes(made.outputs[0].data)
    loudness, peak = measure(path)
    told = parameter(made, "loudness_lufs")
    assert (told.disposition, told.requested.number_value) == (DISPOSITION_CLAMPED, 0.0)
    assert abs(told.value.number_value - loudness) <= 0.3
    assert peak <= -1.0
    with pytest.raises(grpc.aio.AioRpcError, match="because the request is strict"):
        await generate(stub, 2.0, loudness_lufs=0.0, strict=True)


async def test_filters_and_fades_are_told(stub: Stub) -> None:
    """APPLIED, with their values; equal tasks give equal bytes with them, too."""
    task: dict[str, Any] = {
        "high_pass_hz": 80.0,
        "fade_in": Duration(nanos=100_000_000),
        "fade_out": Duration(nanos=250_000_000),
        "seed": 3,
    }
    first, again = [await generate(stub, **task) for _ in range(2)]
    assert first.outputs[0].data == again.outputs[0].data
    for name, value in (("high_pass_hz", 80.0), ("fade_in", 0.1), ("fade_out", 0.25)):
        told = parameter(first, name)
        assert (told.value.number_value, told.disposition) == (value, DISPOSITION_APPLIED)


@pytest.mark.parametrize(
    ("task", "seconds", "field", "words"),
    [
        ({"format": task_pb2.AUDIO_FORMAT_OPUS, "sample_rate": 44100}, 0.5, "sample_rate", "Opus"),
        ({"format": task_pb2.AUDIO_FORMAT_MP3, "sample_rate": 96000}, 0.5, "sample_rate", "MP3"),
        ({"loudness_lufs": -16.0}, 0.3, "loudness_lufs", "0.4 seconds"),
        ({"fade_in": Duration(seconds=1)}, 0.5, "fade_out", "0.5 seconds"),
        ({"fade_in": Duration(seconds=1), "seamless_loop": True}, 2.0, "audio", "seamless_loop"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(
    stub: Stub, task: dict[str, Any], seconds: float, field: str, words: str
) -> None:
    """Before anything is made."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await generate(stub, seconds, **task)
    assert field in str(caught.value.details())
    assert words in str(caught.value.details())


async def test_the_capabilities_say_what_the_server_adds(stub: Stub) -> None:
    """Rates, channels, features and formats that a task can ask for."""
    found = await stub.GetCapabilities(pb.GetCapabilitiesRequest())
    audio = found.engines[0].audio
    assert list(audio.sample_rates) == [44100, 48000, 16000]
    assert {8000, 44100, 192000} <= set(audio.output_sample_rates)
    assert list(audio.output_channels) == [1, 2]
    assert list(audio.server_features) == [engine_pb2.AUDIO_FEATURE_LOUDNESS]
    assert sorted(audio.formats) == sorted(FORMATS.values())
