"""Audio that an engine returns as a file: as it is where that is what was asked for, else finished as samples are."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator

import grpc
import numpy as np
import pyloudnorm
import pytest
import soundfile
from grpc import aio

from atelier.v1 import task_pb2
from atelier.v1.generation_pb2 import DISPOSITION_EMULATED, DISPOSITION_IGNORED, Generation
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import RunningServer, launch
from tests.server.calls import Stub, audio_request
from tests.server.conftest import install
from tests.server.test_audio import parameter
from tests.server.third_party.atelier_files import make_file


@pytest.fixture(scope="module")
def files_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with that engine alone."""
    folder = tmp_path_factory.mktemp("files")
    running = launch(
        folder,
        engines={"files": {"type": "files"}},
        environment=install("files", folder / "site"),
    )
    yield running
    running.kill()


@pytest.fixture
async def files_stub(files_server: RunningServer) -> AsyncIterator[Stub]:
    """Calls it."""
    async with aio.insecure_channel(files_server.address) as channel:
        yield GenerationServiceStub(channel)


async def generate(stub: Stub, prompt: str, **task: object) -> Generation:
    """What becomes of the file of that format."""
    request = audio_request(prompt, seconds=1.0, engine="files", task=task, inline_outputs=True)
    return (await stub.Generate(request)).generation


@pytest.mark.parametrize("container", ["flac", "mp3"])
async def test_a_file_that_is_what_was_asked_for_stays_as_it_is(
    files_stub: Stub, container: str
) -> None:
    """Byte for byte: it may be signed."""
    for form in (None, container):
        asked = {} if form is None else {"format": f"AUDIO_FORMAT_{form.upper()}"}
        made = await generate(files_stub, container, **asked)
        assert made.outputs[0].data == make_file(container, 1.0)


async def test_what_the_file_is_not_the_server_makes_of_it(files_stub: Stub) -> None:
    """As the receipt says: loudness, channels, rate, fades and format."""
    made = await generate(
        files_stub,
        "ogg",
        format=task_pb2.AUDIO_FORMAT_WAV,
        loudness_lufs=-30.0,
        channels=2,
        sample_rate=48000,
    )
    output = made.outputs[0]
    assert output.artifact.media_type == "audio/wav"
    samples, rate = soundfile.read(io.BytesIO(output.data))
    assert (rate, samples.shape) == (48000, (48000, 2))
    assert (output.audio.samples, output.audio.sample_rate, output.audio.channels) == (
        48000,
        48000,
        2,
    )
    assert pyloudnorm.Meter(rate).integrated_loudness(samples) == pytest.approx(-30.0, abs=0.5)
    assert parameter(made, "loudness_lufs").disposition == DISPOSITION_EMULATED
    faded = await generate(files_stub, "flac", fade_in={"seconds": 1})
    samples, _ = soundfile.read(io.BytesIO(faded.outputs[0].data))
    assert np.abs(samples[:4000]).max() < 0.01 < np.abs(samples[-4000:]).max()


async def test_previews_that_an_engine_does_not_make_are_ignored(files_stub: Stub) -> None:
    """And told, not refused."""
    told = parameter(await generate(files_stub, "flac", preview_interval=1), "preview_interval")
    assert told.disposition == DISPOSITION_IGNORED
    assert told.explanation == "this engine does not support previews"


async def test_a_file_that_cannot_be_read_is_a_failure_of_the_engine(files_stub: Stub) -> None:
    """And not passed on."""
    with pytest.raises(grpc.aio.AioRpcError, match=r"returned a file of audio: .*damaged"):
        await generate(files_stub, "damaged")
