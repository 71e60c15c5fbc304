"""What an engine yields is the same on this side of any number of servers, in every field."""

from __future__ import annotations

import io
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from atelier_engines.event import Charge, Event, Note, Output, Reused, Stage, Step
from atelier_engines.media import Encoded, Samples
from atelier_engines.task import Task
from tests.totality.conftest import Serve, forwarding
from tests.totality.filling import defaulted
from tests.totality.recording_engine import RecordingEngine
from tests.totality.tasks import AUDIO, IMAGE, PERMISSIVE


def encoded(media_type: str, kind: str, width: int, height: int, *, grey: int = 99) -> Encoded:
    """A grey image in a file."""
    file = io.BytesIO()
    Image.new("L", (width, height), grey).save(file, kind)
    return Encoded(media_type=media_type, data=file.getvalue(), width=width, height=height)


PREVIEW = encoded("image/webp", "WEBP", 16, 12)
EVENTS: tuple[Event, ...] = (
    Stage(name="upload", queue_position=7),
    Stage(name="queued", queue_position=3),
    Stage(name="denoise", queue_position=1),
    Step(index=1, total=9, preview=PREVIEW),
    Step(index=4, total=9, preview=replace(PREVIEW, width=8)),
)
IMAGES = tuple(
    Output(
        media=encoded("image/png", "PNG", *IMAGE.output_size, grey=90 + number),
        seed=seed,
        flagged=True,
        cached=True,
        weights={"lora ink": "1" * 64, "lora clay": "2" * 64},
        memory_bytes=2**40 + 1,
    )
    for number, seed in enumerate(IMAGE.seeds)
)


CHARGES = (
    Charge(usage={"image_output_tokens": 7}, amount=0.25, currency="EUR", explanation="by tokens"),
    Charge(usage={"image_output_tokens": 9}, amount=0.5, currency="EUR", explanation="by tokens"),
)


@pytest.mark.parametrize("event", [*EVENTS, *IMAGES], ids=lambda event: type(event).__name__)
def test_the_events_say_something_in_every_field(event: Event) -> None:
    """A new field of an event fails here until the tests below carry it.

    What is cached costs nothing, an image of its size needs no reason for it, and notes are of audio. Runs of a model
    without its compiled code, and those that tasks share, are counted by the server that has the model; only audio is
    reused.
    The instance that runs a task is said by the receipt of the server that has several, and by no other.
    """
    excused: list[str] = []
    if isinstance(event, Output):
        excused = ["size_reason", "eager_runs", "charge", "score", "notes", "reused"]
    elif isinstance(event, Step):
        excused = ["batch"]
    elif isinstance(event, Stage):
        excused = ["replica"]
    assert list(defaulted(event)) == excused


@pytest.mark.parametrize("engine", ["deep", "far"])
async def test_every_field_of_every_event_comes_through(serve: Serve, engine: str) -> None:
    """In order, over one server and over two; what the servers do themselves may come in between."""
    found = await events_of(serve, (*EVENTS, *IMAGES), IMAGE, engine)
    assert [event for event in found if event in EVENTS] == list(EVENTS)
    assert [event for event in found if isinstance(event, Output)] == list(IMAGES)


@pytest.mark.parametrize("engine", ["deep", "far"])
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
async def test_the_charges_come_through(serve: Serve, engine: str, *, known: bool) -> None:
    """Their sum, with the first output; a cost that is unknown stays so."""
    charges = CHARGES if known else [replace(charge, amount=None) for charge in CHARGES]
    made = [
        replace(image, cached=False, charge=charge)
        for image, charge in zip(IMAGES, charges, strict=True)
    ]
    found = await events_of(serve, tuple(made), IMAGE, engine)
    first, second = [event.charge for event in found if isinstance(event, Output)]
    assert first is not None
    assert second is not None
    assert first.usage == {"image_output_tokens": 16}
    assert second.usage == {}
    assert (first.amount, second.amount) == ((0.75, 0.0) if known else (None, None))
    assert {first.explanation, second.explanation} == {"by tokens"}
    assert first.currency == ("EUR" if known else "USD")


@pytest.mark.parametrize("engine", ["deep", "far"])
async def test_every_sample_and_field_of_audio_comes_through(serve: Serve, engine: str) -> None:
    """All that sixteen bits can say."""
    samples = round(AUDIO.duration_seconds * AUDIO.sample_rate)
    steps = np.resize(np.arange(-32768, 32768, dtype=np.float32), (samples, 2)) / np.float32(32768)
    given = Output(
        media=Samples(array=steps, sample_rate=44100),
        seed=AUDIO.seed,
        flagged=True,
        notes=(
            Note(field="duration", text="its end is silent"),
            Note(field="prompt", text="a chord stands in", emulated=True),
        ),
        cached=True,
        reused=Reused(prompt="a hum before", similarity=0.96875),
    )
    (output,) = [
        event
        for event in await events_of(serve, (given,), AUDIO, engine)
        if isinstance(event, Output)
    ]
    assert isinstance(output.media, Samples)
    assert np.array_equal(output.media.array, steps)
    assert output.media.sample_rate == 44100
    assert replace(output, media=given.media) == given


async def events_of(
    serve: Serve, events: tuple[Event, ...], task: Task, engine: str
) -> list[Event]:
    """What comes out of the engine that forwards to one that yields the events."""
    recording = RecordingEngine(PERMISSIVE, events)
    async with (
        serve(recording) as address,
        forwarding(address, engine) as forwarded,
        aclosing(forwarded.run(task)) as found,
    ):
        return [event async for event in found]
