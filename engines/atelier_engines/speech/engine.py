"""Runs speech tasks on one thread, a step for each sentence."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from atelier_engines.capabilities import Capabilities
from atelier_engines.errors import (
    EngineFailedError,
    EngineUnavailableError,
    InvalidTaskError,
    ModelMissingError,
    UnsupportedError,
)
from atelier_engines.event import Event, Note, Output, Stage, Step
from atelier_engines.media import Samples
from atelier_engines.options import parse_options
from atelier_engines.speech.capabilities import SAMPLE_RATE, build_capabilities
from atelier_engines.speech.config import SpeechConfig, SpeechOptions
from atelier_engines.speech.package import find_package
from atelier_engines.task import AudioTask, Task
from atelier_engines.threads import Emit, result_from_thread, stream_from_thread
from atelier_engines.waveform import preview_waveform

if TYPE_CHECKING:
    from atelier_engines.speech.voice import ReadText, Voice

_MAX_UNSAID = 10


class SpeechEngine:
    """Says the words of prompts; concurrent tasks wait for each other. See Engine."""

    def __init__(self, config: SpeechConfig) -> None:
        """Create the engine without loading anything."""
        self._config = config
        self._capabilities = build_capabilities()
        self._voice: Voice | None = None
        self._thread: ThreadPoolExecutor | None = None

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self._capabilities

    async def start(self) -> None:
        """See Engine.start. With `load_on_demand` the voice is not loaded yet.

        Raises:
            EngineUnavailableError: the package of the voice is absent.
            ModelMissingError: it is broken.
        """
        if self._thread is not None:
            return
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="atelier-speech")
        try:
            found = await result_from_thread(find_package, executor=self._thread)
            if not self._config.load_on_demand:
                await result_from_thread(self._load, executor=self._thread)
        except BaseException:
            await self.stop()
            raise
        self._capabilities = build_capabilities(found.digest, found.versions)

    async def check(self) -> None:
        """See Engine.check.

        Raises:
            EngineUnavailableError: it is not started.
        """
        self._require_started()

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run.

        Raises:
            EngineUnavailableError: it is not started.
            UnsupportedError: the task is not an audio task.
            InvalidTaskError: the prompt has no word that the voice can say, or an option is invalid.
            EngineFailedError: the voice failed.
            ModelMissingError: the voice, which this task is the first to need, is broken.
        """
        thread = self._require_started()
        if not isinstance(task, AudioTask):
            raise UnsupportedError("image", "this engine does not support image tasks")
        speed = parse_options(task, SpeechOptions).speed or self._config.speed
        if self._voice is None:
            yield Stage(name="load")
        voice = await result_from_thread(self._load, executor=thread)
        work = partial(_say, voice, task, speed)
        async with aclosing(stream_from_thread(work, executor=thread)) as events:
            async for event in events:
                yield event

    async def stop(self) -> None:
        """See Engine.stop. It can be started again."""
        self._voice = None
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None

    def _load(self) -> Voice:
        """The voice, loaded by the first call; on the engine's thread."""
        if self._voice is None:
            self._voice = _load()
        return self._voice

    def _require_started(self) -> ThreadPoolExecutor:
        loading = self._voice is None and not self._config.load_on_demand
        if self._thread is None or loading:
            raise EngineUnavailableError("the engine is not started, or still loading its voice")
        return self._thread


def _load() -> Voice:
    try:
        from atelier_engines.speech.voice import Voice  # noqa: PLC0415 (takes seconds)
    except ImportError as error:
        raise EngineUnavailableError(
            f"a package is missing: {error}; install atelier-engines[speech]"
        ) from error
    try:
        return Voice()
    except Exception as error:
        raise ModelMissingError(f"the voice cannot be loaded: {error}") from error


def _say(voice: Voice, task: AudioTask, speed: float, emit: Emit) -> None:
    """Say the prompt sentence by sentence; each `emit` is a cancellation point."""
    emit(Stage(name="read"))
    text = _read(voice, task.prompt)
    sentences = text.sentences
    emit(Stage(name="speak"))
    parts = []
    for index, part in enumerate(voice.say(sentences, speed=speed, seed=task.seed), start=1):
        parts.append(part)
        preview = None
        if task.preview_interval and index % task.preview_interval == 0:
            said = np.concatenate(parts)[:, None]
            preview = preview_waveform(said, index / len(sentences))
        emit(Step(index=index, total=len(sentences), preview=preview))
    media = _finish(np.concatenate(parts))
    emit(Output(media=media, seed=task.seed, notes=_describe_unsaid(text.unsaid)))


def _read(voice: Voice, prompt: str) -> ReadText:
    """The prompt as the voice reads it.

    Raises:
        InvalidTaskError: it has no word that the voice can say, or the reader fails on it.
    """
    try:
        text = voice.read(prompt)
    except Exception as error:
        raise InvalidTaskError(
            "prompt",
            f"the voice cannot read it ({type(error).__name__}: {error}): write it in plain words",
        ) from error
    if not text.sentences:
        raise InvalidTaskError("prompt", _NOTHING_TO_SAY)
    return text


def _describe_unsaid(words: Sequence[str]) -> tuple[Note, ...]:
    """Say which words the voice left out, at least in part."""
    if not words:
        return ()
    shown = ", ".join(repr(word) for word in words[:_MAX_UNSAID])
    more = len(words) - _MAX_UNSAID
    rest = f" and {more} more" if more > 0 else ""
    return (
        Note(field="prompt", text=f"not said, or in part: {shown}{rest}: the voice reads English"),
    )


def _finish(samples: np.ndarray[tuple[int], np.dtype[np.float32]]) -> Samples:
    """The clip, made quieter where it would clip."""
    if not len(samples):
        raise InvalidTaskError("prompt", _NOTHING_TO_SAY)
    peak = float(np.abs(samples).max())
    if not np.isfinite(peak):
        raise EngineFailedError("the voice produced NaN or infinity")
    made = (samples / max(1.0, peak)).astype(np.float32)
    return Samples(array=made[:, None], sample_rate=SAMPLE_RATE)


_NOTHING_TO_SAY = "the prompt has no word that this voice can say: it reads English"
