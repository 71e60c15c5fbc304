"""Requests to the other server, its responses, and what remains after a failure."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from atelier.v1 import engine_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier_client import AsyncClient, Generation, State
from atelier_engines.capabilities import CancelSupport, Reproducibility
from atelier_engines.closing import Closing, announce
from atelier_engines.conformance.tasks import random_image
from atelier_engines.engine import Engine
from atelier_engines.errors import (
    EngineFailedError,
    EngineUnavailableError,
    InvalidTaskError,
    UnsupportedError,
)
from atelier_engines.event import Dispatched, Event, Output, Stage
from atelier_engines.forwarding.events import samples_from_wav
from atelier_engines.forwarding.handle import Handle, parse_handle
from atelier_engines.media import Encoded, Samples
from atelier_engines.task import (
    AudioTask,
    ImageTask,
    Task,
)
from atelier_engines.vendors.atelier import ENGINE, AtelierConfig
from tests.client.fake_server import Context, FakeServer, serve
from tests.conftest import RunningServer, free_port
from tests.server.conftest import install_odd
from tests.vendors.atelier.conftest import Launch

IMAGE = ImageTask(prompt="a lamp", width=64, height=48, seeds=(3, 4), steps=2, guidance=5.0)
AUDIO = AudioTask(
    prompt="rain", duration_seconds=0.3, seed=5, sample_rate=16000, channels=2, steps=2
)


@pytest.fixture
async def engine(other: RunningServer) -> AsyncIterator[Engine]:
    """Forwards to `sketch`, started."""
    made = ENGINE.create(AtelierConfig(address=other.address, engine="sketch"))
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def there(other: RunningServer) -> AsyncIterator[AsyncClient]:
    """Asks the other server directly."""
    async with AsyncClient(other.address) as client:
        yield client


async def collect_events(engine: Engine, task: Task) -> list[Event]:
    """Everything that the task yields."""
    async with aclosing(engine.run(task)) as events:
        return [event async for event in events]


def handles(story: list[Event]) -> list[str]:
    """The handles in the order in which they were to be stored."""
    return [event.handle for event in story if isinstance(event, Dispatched)]


async def list_generations(client: AsyncClient) -> list[Generation]:
    """Every generation of the server."""
    async with aclosing(client.list()) as generations:
        return [generation async for generation in generations]


async def test_images_are_passed_on_unchanged(engine: Engine, there: AsyncClient) -> None:
    """Byte for byte those of the other server, and in the order of the seeds."""
    direct = await there.generate(
        "a lamp", engine="sketch", width=64, height=48, seed=3, num_images=2, steps=2, guidance=5.0
    )
    outputs = [event for event in await collect_events(engine, IMAGE) if isinstance(event, Output)]
    assert [output.seed for output in outputs] == [3, 4]
    files = [output.media.data for output in outputs if isinstance(output.media, Encoded)]
    assert files == [made.data for made in direct.images]


async def test_audio_keeps_its_samples(engine: Engine, other: RunningServer) -> None:
    """Encoded again they are the other server's file, sample for sample."""
    output = (await collect_events(engine, AUDIO))[-1]
    assert isinstance(output, Output)
    assert isinstance(output.media, Samples)
    async with AsyncClient(other.address) as client:
        newest = (await list_generations(client))[0]
        made = (await client.get(newest.id)).audio[0].data
    file = io.BytesIO()
    soundfile.write(file, output.media.array, 16000, "PCM_16", format="WAV")
    ours, _ = soundfile.read(io.BytesIO(file.getvalue()), dtype="int16")
    original, _ = soundfile.read(io.BytesIO(made), dtype="int16")
    assert np.array_equal(ours, original)


def test_every_sample_survives_being_decoded_and_encoded() -> None:
    """All that sixteen bits can say, and nothing beyond full scale."""
    every = np.arange(-32768, 32768, dtype=np.int16).reshape(-1, 2)
    file, again = io.BytesIO(), io.BytesIO()
    soundfile.write(file, every, 16000, "PCM_16", format="WAV")
    samples = samples_from_wav(file.getvalue())
    assert np.abs(samples.array).max() <= 1.0
    soundfile.write(again, samples.array, 16000, "PCM_16", format="WAV")
    assert np.array_equal(soundfile.read(io.BytesIO(again.getvalue()), dtype="int16")[0], every)


def test_audio_that_is_not_a_wav_file_is_a_failure() -> None:
    """WAV was requested."""
    with pytest.raises(EngineFailedError, match="WAV"):
        samples_from_wav(b"OggS")


async def test_the_handle_is_written_before_the_task_is_sent(
    engine: Engine, there: AsyncClient
) -> None:
    """After a crash, the generation is found by the handle."""
    async with aclosing(engine.run(IMAGE)) as events:
        assert isinstance(await anext(events), Stage)
        first = await anext(events)
        assert isinstance(first, Dispatched)
        handle = parse_handle(first.handle)
        known = await list_generations(there)
        assert handle.request_id not in {generation.request_id for generation in known}
        second = await anext(events)
    assert isinstance(second, Dispatched)
    found = await there.get(parse_handle(second.handle).generation_id)
    assert found.request_id == handle.request_id


@pytest.mark.parametrize("which", [0, 1])
async def test_work_is_found_again_by_either_handle(
    engine: Engine, there: AsyncClient, which: int
) -> None:
    """Both from before and from after the acceptance; nothing runs twice."""
    first = await collect_events(engine, IMAGE)
    count = len(await list_generations(there))
    again = await collect_events(engine, replace(IMAGE, resume=handles(first)[which]))
    assert len(await list_generations(there)) == count
    assert [event for event in again if isinstance(event, Output)] == [
        event for event in first if isinstance(event, Output)
    ]


async def test_a_task_with_uploaded_images_is_found_again_too(
    engine: Engine, there: AsyncClient
) -> None:
    """Sent again they have new artifact ids, so the request differs."""
    task = replace(IMAGE, init_image=random_image(1000, 800, 1))
    first = await collect_events(engine, task)
    count = len(await list_generations(there))
    again = await collect_events(engine, replace(task, resume=handles(first)[0]))
    assert len(await list_generations(there)) == count
    assert handles(again)[-1] == handles(first)[-1]


async def test_work_that_was_never_accepted_is_sent_when_it_is_taken_up_again(
    engine: Engine, there: AsyncClient
) -> None:
    """The process died between the first handle and the sending."""
    handle = Handle(request_id="never-sent")
    story = await collect_events(engine, replace(IMAGE, resume=handle.serialize()))
    assert isinstance(story[-1], Output)
    assert (await list_generations(there))[0].request_id == "never-sent"


async def test_lost_work_is_a_failure(engine: Engine) -> None:
    """The other server has lost its data."""
    handle = Handle(request_id="r", generation_id="0" * 32)
    with pytest.raises(EngineFailedError, match="lost"):
        await collect_events(engine, replace(IMAGE, resume=handle.serialize()))


async def test_a_handle_of_another_kind_is_a_failure(engine: Engine) -> None:
    """The engine of that name was of another type before."""
    with pytest.raises(EngineFailedError, match="is invalid"):
        await collect_events(engine, replace(IMAGE, resume="job-17"))


async def test_closing_stops_the_work_there(engine: Engine, there: AsyncClient) -> None:
    """When the close returns, the other server has stopped."""
    slow = replace(IMAGE, steps=100, options={"delay_seconds": 60})
    handle = Handle(request_id="")
    async with aclosing(engine.run(slow)) as events:
        while not handle.generation_id:
            event = await anext(events)
            if isinstance(event, Dispatched):
                handle = parse_handle(event.handle)
    found = await there.get(handle.generation_id)
    assert found.state is State.CANCELLED


class DelayedServer(FakeServer):
    """Accepts a task only when the test says so."""

    def __init__(self, words: Sequence[str] = ()) -> None:
        super().__init__()
        self.sent, self.go = asyncio.Event(), asyncio.Event()
        self.words = words

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateResponse:  # noqa: D102, N802 (gRPC's name, described in the contract)
        self.sent.set()
        await self.go.wait()
        return await super().Generate(request, context)

    async def GetCapabilities(  # noqa: D102, N802 (gRPC's name, described in the contract)
        self, _: pb.GetCapabilitiesRequest, __: Context
    ) -> pb.GetCapabilitiesResponse:
        able = engine_pb2.Engine(
            name="stand-in",
            state=engine_pb2.ENGINE_STATE_READY,
            image=engine_pb2.ImageCapabilities(
                width=engine_pb2.IntegerRange(max=64),
                height=engine_pb2.IntegerRange(max=64),
                vocabulary=self.words,
            ),
            cancel_support=engine_pb2.CANCEL_SUPPORT_STEP,
        )
        return pb.GetCapabilitiesResponse(engines=[able])

    async def Health(self, _: pb.HealthRequest, __: Context) -> pb.HealthResponse:  # noqa: D102, N802 (gRPC's name, described in the contract)
        able = pb.EngineHealth(engine="stand-in", state=engine_pb2.ENGINE_STATE_READY)
        return pb.HealthResponse(status=pb.SERVING_STATUS_SERVING, engines=[able])


@pytest.mark.parametrize(
    ("words", "tolerated"), [([], ["width", "height"]), (["a"], ["width", "height", "prompt"])]
)
async def test_cancelling_while_the_task_is_sent_leaves_nothing_running(
    words: list[str], tolerated: list[str]
) -> None:
    """A task that is accepted after its cancellation is cancelled at once."""
    service = DelayedServer(words)
    async with serve(service) as address:
        engine = ENGINE.create(AtelierConfig(address=address))
        await engine.start()
        run = asyncio.create_task(collect_events(engine, IMAGE))
        await service.sent.wait()
        run.cancel()
        await asyncio.sleep(0)
        service.go.set()
        await asyncio.wait([run])
        await engine.stop()
    assert run.cancelled()
    sent, cancelled = service.requests
    assert isinstance(cancelled, pb.CancelGenerationRequest)
    assert isinstance(sent, pb.GenerateRequest)
    assert sent.strict, "nothing is clamped or ignored there in silence"
    assert sent.strict_except == tolerated


async def leave_at(engine: Engine, task: Task, kind: type[Stage | Output]) -> str:
    """What a run leaves that is closed at its first event of that kind of the other server's."""
    closing = Closing()
    announce(closing)
    async with aclosing(engine.run(task)) as events:
        async for event in events:
            if isinstance(event, kind) and event != Stage(name="submit"):
                break
    assert closing.left
    return closing.left


@pytest.mark.parametrize("kind", [Stage, Output])
async def test_what_a_closed_run_leaves_is_continued_under_its_request_id(
    engine: Engine, there: AsyncClient, kind: type[Stage | Output]
) -> None:
    """Whether it was cancelled there or had ended: one generation there, and nothing that was made is made again."""
    before = len(await list_generations(there))
    left = await leave_at(engine, replace(IMAGE, options={"delay_seconds": 0.2}), kind)
    resumed = replace(IMAGE, options={"delay_seconds": 0.2}, resume=left)
    made = [event for event in await collect_events(engine, resumed) if isinstance(event, Output)]
    assert [output.seed for output in made] == [3, 4]
    newest, *others = await list_generations(there)
    assert len(others) == before
    assert newest.state is State.SUCCEEDED
    assert newest.receipt is not None
    assert len(newest.receipt.attempts) == (2 if kind is Stage else 1)


async def test_what_stays_cancelled_there_is_sent_as_a_new_generation(
    engine: Engine, there: AsyncClient
) -> None:
    """As at a server of an earlier version, or when its operator has cancelled it."""
    slow = replace(IMAGE, options={"delay_seconds": 0.2})
    left = await leave_at(engine, slow, Stage)
    cancelled = (await list_generations(there))[0]
    await there.cancel(cancelled.id)
    await collect_events(engine, replace(slow, resume=left))
    newest, before = (await list_generations(there))[:2]
    assert (before.id, before.state) == (cancelled.id, State.CANCELLED)
    assert newest.state is State.SUCCEEDED


async def test_a_failure_there_is_a_failure_here(engine: Engine) -> None:
    """With the message of the other server."""
    with pytest.raises(EngineFailedError, match="as configured"):
        await collect_events(engine, replace(IMAGE, options={"fail": True}))


async def test_an_invalid_option_is_named(engine: Engine) -> None:
    """As the other server does."""
    with pytest.raises(InvalidTaskError) as refused:
        await collect_events(engine, replace(IMAGE, options={"font_size": -1}))
    assert refused.value.field == "options.font_size"


async def test_seeds_that_do_not_follow_one_another_are_refused(engine: Engine) -> None:
    """The contract has only the first seed."""
    with pytest.raises(UnsupportedError, match="consecutive seeds"):
        await collect_events(engine, replace(IMAGE, seeds=(3, 9)))


async def test_a_server_that_is_not_there_has_begun_nothing() -> None:
    """At the start; another engine may take over."""
    config = AtelierConfig(address=f"127.0.0.1:{free_port()}", retry_timeout_seconds=0.1)
    with pytest.raises(EngineUnavailableError):
        await ENGINE.create(config).start()


async def test_an_engine_that_is_not_there_is_named(other: RunningServer) -> None:
    """With those there are."""
    engine = ENGINE.create(AtelierConfig(address=other.address, engine="nobody"))
    with pytest.raises(EngineUnavailableError, match="'nobody'; it has sketch"):
        await engine.start()


async def test_the_capabilities_are_those_of_the_weakest_engine(
    launching: Launch, tmp_path: Path
) -> None:
    """A fallback without cancellation by step or reproducibility counts as well."""
    server = launching(
        "mixed",
        environment=install_odd(tmp_path / "site"),
        engines={
            "strong": {"type": "sketch", "fallbacks": ["weak"]},
            "weak": {"type": "odd", "cancel": "remote"},
            "alone": {"type": "sketch"},
        },
    )
    found = {}
    for name in ("strong", "alone"):
        engine = ENGINE.create(AtelierConfig(address=server.address, engine=name))
        await engine.start()
        found[name] = (engine.capabilities.cancel, engine.capabilities.reproducibility)
        await engine.stop()
    assert found["alone"] == (CancelSupport.STEP, Reproducibility.BIT_EXACT)
    assert found["strong"] == (CancelSupport.REMOTE, Reproducibility.BEST_EFFORT)
