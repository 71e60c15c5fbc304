"""A task reaches the engine behind another server as it was given, in every field."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest

from atelier_engines.event import Output
from atelier_engines.media import Encoded, Pixels, Samples
from atelier_engines.task import ImageTask, Task
from tests.totality.conftest import Serve, forwarding
from tests.totality.filling import defaulted
from tests.totality.recording_engine import RecordingEngine
from tests.totality.tasks import AUDIO, CONTINUED, IMAGE, PERMISSIVE

OWN = ["reuse", "resume"]
"""Fields that mean something to one engine alone and go no further."""
OTHERWISE = ["continuation"]
"""Fields that exclude another one: CONTINUED has them."""


@pytest.mark.parametrize("task", [IMAGE, AUDIO], ids=["image", "audio"])
def test_the_task_says_something_in_every_field(task: Task) -> None:
    """A new field of a task fails here until the tests below carry it."""
    assert [name for name in defaulted(task) if name not in [*OWN, *OTHERWISE]] == []


@pytest.mark.parametrize("engine", ["deep", "far"])
@pytest.mark.parametrize("task", [IMAGE, AUDIO, CONTINUED], ids=["image", "audio", "continued"])
async def test_every_field_of_a_task_comes_through(serve: Serve, task: Task, engine: str) -> None:
    """Over one server and over two."""
    recording = RecordingEngine(PERMISSIVE, outputs(task))
    async with (
        serve(recording) as address,
        forwarding(address, engine) as forwarded,
        aclosing(forwarded.run(task)) as events,
    ):
        assert [event async for event in events]
    (received,) = recording.tasks
    assert plain(received) == plain(task)


def outputs(task: Task) -> list[Output]:
    """As many as the task asks for."""
    if isinstance(task, ImageTask):
        image = Encoded(media_type="image/png", data=b"\x89PNG", width=160, height=120)
        return [Output(media=image, seed=seed) for seed in task.seeds]
    hum = np.full((round(task.duration_seconds * task.sample_rate), 2), 0.5, np.float32)
    return [Output(media=Samples(array=hum, sample_rate=task.sample_rate), seed=task.seed)]


def plain(value: Any) -> Any:  # noqa: ANN401 - tasks and all that they hold
    """What can be compared: dataclasses as dictionaries, pixels and samples as bytes."""
    if isinstance(value, Pixels):
        return (value.array.shape, value.array.tobytes())
    if isinstance(value, Samples):
        return (value.array.shape, value.array.tobytes(), value.sample_rate)
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value
