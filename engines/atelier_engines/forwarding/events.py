"""Maps the events of a generation on another server to an engine's events."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import assert_never

import numpy as np

import atelier_client as client
from atelier_client.enums import Disposition
from atelier_client.results import Receipt
from atelier_engines.errors import EngineFailedError
from atelier_engines.event import Charge, Event, Note, Output, Reused, Stage, Step
from atelier_engines.media import Encoded, Samples
from atelier_engines.task import ImageTask, Task

_FULL_SCALE = np.float32(32768.0)
"""What 1.0 is in 16 bits, as libsndfile decodes and encodes them: so the same samples come out again."""
_BYTES = 2
_QUEUED = "queued"


@dataclass(slots=True)
class EventMapper:
    """Yields what is new in each event; what a second attempt there repeats is left out."""

    _task: Task
    _versions: Mapping[str, str]
    """Those that the capabilities name already."""
    _stage: str = ""
    _position: int | None = None
    _step: int = 0

    def events(self, progress: client.Progress) -> Iterator[Event]:
        """The stage and the step of an event of the generation, as far as they are new."""
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
        """The outputs in the last event of a generation that succeeded; blocks.

        Raises:
            EngineFailedError: they are not what the task asks for.
        """
        generation = progress.generation
        if generation is None or generation.state != client.State.SUCCEEDED:
            return []
        task = self._task
        seeds = task.seeds if isinstance(task, ImageTask) else (task.seed,)
        made, asked = len(generation.outputs), len(seeds)
        if made < asked:
            raise EngineFailedError(f"the other server returned {made} outputs, not {asked}")
        if made > asked:  # its engine makes several of one seed
            seeds = tuple(output.seed for output in generation.outputs)
        cached, weights = self._provenance(generation.receipt)
        charges = _charges(generation.receipt)
        return [
            Output(
                media=_media(output),
                seed=seed,
                flagged=output.flagged,
                cached=cached,
                size_reason=_size_reason(task, output, generation.receipt),
                weights=weights,
                memory_bytes=0 if generation.receipt is None else generation.receipt.memory_bytes,
                charge=next(charges),
                notes=_notes(task, generation.receipt),
                reused=_reused(generation.receipt),
            )
            for output, seed in zip(generation.outputs, seeds, strict=True)
        ]

    def _provenance(self, receipt: Receipt | None) -> tuple[bool, dict[str, str]]:
        """Whether the outputs come from the cache, and what took part beside what the capabilities name."""
        if receipt is None or receipt.recipe is None:
            return False, {}
        versions = receipt.recipe.versions.items()
        weights = {name: text for name, text in versions if self._versions.get(name) != text}
        return receipt.cached, weights


def _size_reason(task: Task, output: client.Image | client.Audio, receipt: Receipt | None) -> str:
    """Why an image has another size than the task asks for, as the other server says; empty where it has that size."""
    if not isinstance(task, ImageTask) or not isinstance(output, client.Image):
        return ""
    if (output.width, output.height) == task.output_size:
        return ""
    found = () if receipt is None else receipt.parameters
    told = (one.explanation for one in found if one.name in {"width", "height"} and one.explanation)
    return next(told, f"the other server makes {output.width} x {output.height} pixels")


def _notes(task: Task, receipt: Receipt | None) -> tuple[Note, ...]:
    """What the engine there tells of the fields of an audio task; the server itself explains what it changed."""
    if isinstance(task, ImageTask) or receipt is None:
        return ()
    emulated = Disposition.EMULATED
    return tuple(
        Note(field=one.name, text=one.explanation, emulated=one.disposition is emulated)
        for one in receipt.parameters
        if one.explanation and one.disposition in {Disposition.APPLIED, emulated}
    )


def _reused(receipt: Receipt | None) -> Reused | None:
    if receipt is None or receipt.reuse is None:
        return None
    return Reused(prompt=receipt.reuse.prompt, similarity=receipt.reuse.similarity)


def _charges(receipt: Receipt | None) -> Iterator[Charge | None]:
    """One for each output: the whole charge for the first, nothing for the others; None if it was free."""
    if receipt is None or not (receipt.cost or receipt.usage or receipt.cost_explanation):
        yield from repeat(None)
        return
    amount, currency = (
        (None, "USD") if receipt.cost is None else (receipt.cost.amount, receipt.cost.currency)
    )
    explanation = receipt.cost_explanation
    yield Charge(usage=receipt.usage, amount=amount, currency=currency, explanation=explanation)
    rest = None if amount is None else 0.0
    yield from repeat(Charge(amount=rest, currency=currency, explanation=explanation))


def _preview(progress: client.Progress) -> Encoded | None:
    shown = progress.preview
    if shown is None:
        return None
    return Encoded(
        media_type=shown.media_type, data=shown.data, width=shown.width, height=shown.height
    )


def _media(output: client.Image | client.Audio) -> Encoded | Samples:
    """An image as it came, byte for byte; audio decoded."""
    match output:
        case client.Image():
            return Encoded(
                media_type=output.media_type,
                data=output.data,
                width=output.width,
                height=output.height,
            )
        case client.Audio():
            return samples_from_wav(output.data)
        case _:
            assert_never(output)


def samples_from_wav(data: bytes) -> Samples:
    """The samples of a 16-bit WAV file; a server that encodes them again writes the same samples.

    Raises:
        EngineFailedError: it is no such file.
    """
    try:
        with wave.open(io.BytesIO(data)) as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise EngineFailedError("the other server returned audio that is not a WAV file") from error
    if width != _BYTES:
        raise EngineFailedError("the other server returned a WAV file whose samples are not 16-bit")
    whole = np.frombuffer(frames, "<i2").reshape(-1, channels).astype(np.float32)
    return Samples(array=whole / _FULL_SCALE, sample_rate=rate)
