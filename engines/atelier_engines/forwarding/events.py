"""From the events of a generation elsewhere to an engine's events."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

import numpy as np

import atelier_client as client
from atelier_engines.errors import EngineFailedError
from atelier_engines.event import Event, Output, Stage, Step
from atelier_engines.media import Encoded, Samples
from atelier_engines.task import ImageTask, Task

_FULL_SCALE = np.float32(32768.0)
"""What 1.0 is in 16 bits, as libsndfile decodes and encodes them: so the same samples come out again."""
_BYTES = 2
_QUEUED = "queued"


@dataclass(slots=True)
class EventMapper:
    """Tells what is new in each event; what a second attempt there repeats is left out."""

    _task: Task
    _stage: str = ""
    _position: int | None = None
    _step: int = 0

    def events(self, progress: client.Progress) -> Iterator[Event]:
        """What an event of the generation means here; its outputs are not among it."""
        stage = progress.stage
        if progress.state == client.State.QUEUED:
            stage = _QUEUED
        if stage and (stage, progress.queue_position) != (self._stage, self._position):
            self._stage, self._position = stage, progress.queue_position
            yield Stage(name=stage, queue_position=progress.queue_position)
        if progress.step > self._step:
            self._step = progress.step
            yield Step(index=progress.step, total=progress.steps, preview=_preview(progress))

    def outputs(self, progress: client.Progress) -> list[Output]:
        """What was made, in the last event of a generation that succeeded; blocks.

        Raises:
            EngineFailedError: it is not what was asked for.
        """
        generation = progress.generation
        if generation is None or generation.state != client.State.SUCCEEDED:
            return []
        task = self._task
        seeds = task.seeds if isinstance(task, ImageTask) else (task.seed,)
        if len(generation.outputs) != len(seeds):
            raise EngineFailedError(
                f"the other server made {len(generation.outputs)} outputs, not {len(seeds)}"
            )
        return [_output(made, seed) for made, seed in zip(generation.outputs, seeds, strict=True)]


def _preview(progress: client.Progress) -> Encoded | None:
    shown = progress.preview
    if shown is None:
        return None
    return Encoded(
        media_type=shown.media_type, data=shown.data, width=shown.width, height=shown.height
    )


def _output(made: client.Image | client.Audio, seed: int) -> Output:
    """Pictures as they came, byte for byte; sounds decoded."""
    media: Encoded | Samples
    match made:
        case client.Image():
            media = Encoded(
                media_type=made.media_type, data=made.data, width=made.width, height=made.height
            )
        case client.Audio():
            media = samples_from_wav(made.data)
        case _:
            assert_never(made)
    return Output(media=media, seed=seed, flagged=made.flagged)


def samples_from_wav(data: bytes) -> Samples:
    """The sound in a WAV file of 16 bits; encoded again by a server it has the same samples.

    Raises:
        EngineFailedError: it is something else.
    """
    try:
        with wave.open(io.BytesIO(data)) as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise EngineFailedError("the other server delivered a sound that is no WAV file") from error
    if width != _BYTES:
        raise EngineFailedError("the other server delivered a WAV file that has not 16 bits")
    whole = np.frombuffer(frames, "<i2").reshape(-1, channels).astype(np.float32)
    return Samples(array=whole / _FULL_SCALE, sample_rate=rate)
