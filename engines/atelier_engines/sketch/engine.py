"""Runs sketch tasks step by step, with the configured delay and failures."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import assert_never

import numpy as np
from PIL import Image

from atelier_engines.capabilities import Capabilities
from atelier_engines.errors import EngineFailedError, EngineUnavailableError
from atelier_engines.event import Event, Note, Output, Stage, Step
from atelier_engines.media import Encoded, Samples
from atelier_engines.options import parse_options
from atelier_engines.preview import preview_from_image
from atelier_engines.sketch.audio.mixing import continue_audio, mix_in
from atelier_engines.sketch.audio.scene import Scene
from atelier_engines.sketch.audio.words import Reading, read_prompt
from atelier_engines.sketch.capabilities import build_capabilities
from atelier_engines.sketch.chord import Chord
from atelier_engines.sketch.config import SketchConfig, SketchOptions
from atelier_engines.sketch.drawing import DrawnSource
from atelier_engines.sketch.palette import Palette
from atelier_engines.sketch.sources import (
    FixedSizeSource,
    ImageSource,
    SourceImage,
    open_directory,
)
from atelier_engines.task import AudioTask, ImageTask, Task
from atelier_engines.threads import result_from_thread
from atelier_engines.waveform import preview_waveform

_STEPS_AT_ONCE = 8


class SketchEngine:
    """Generates images and audio without a model."""

    def __init__(self, config: SketchConfig) -> None:
        """Create the engine; `start` reads the image directory."""
        self._config = config
        self._source: ImageSource = _make_drawn_source(config)
        self._started = False
        self._capabilities = build_capabilities(config, self._source.features)

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self._capabilities

    async def start(self) -> None:
        """See Engine.start."""
        config = self._config
        if config.image_directory is not None:
            self._source = await result_from_thread(partial(open_directory, config.image_directory))
        elif config.output_bytes is not None:
            self._source = FixedSizeSource(config.output_bytes)
        self._capabilities = build_capabilities(config, self._source.features)
        self._started = True

    async def check(self) -> None:
        """See Engine.check."""
        if not self._started:
            raise EngineUnavailableError("the engine is not started")
        if self._config.image_directory is not None:
            await result_from_thread(partial(open_directory, self._config.image_directory))

    async def stop(self) -> None:
        """See Engine.stop."""
        self._source = _make_drawn_source(self._config)
        self._started = False

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run.

        Raises:
            InvalidTaskError: an option has an invalid value.
            EngineUnavailableError: the engine is not started.
            EngineFailedError: it is configured to fail, or an image in the directory is broken.
        """
        if not self._started:
            raise EngineUnavailableError("the engine is not started")
        options = parse_options(task, SketchOptions)
        match task:
            case ImageTask():
                events = self._draw(task, options)
            case AudioTask():
                events = self._synthesise(task, options)
            case _:
                assert_never(task)
        async with aclosing(events):
            async for event in events:
                yield event

    async def _draw(self, task: ImageTask, options: SketchOptions) -> AsyncGenerator[Event]:
        each = task.steps or 1
        pace = self._pace(options, steps=each * len(task.seeds), seed=task.seeds[0])
        yield Stage(name="draw")
        for number, seed in enumerate(task.seeds):
            image = await self._image(task, seed, options.font_size)
            for step in range(1, each + 1):
                index = number * each + step
                await pace.step(index)
                preview = None
                if task.preview_interval and index % task.preview_interval == 0:
                    preview = await self._preview(image.image, step / each)
                yield Step(index=index, total=pace.steps, preview=preview)
            yield Output(media=image.media, seed=seed)

    async def _synthesise(self, task: AudioTask, options: SketchOptions) -> AsyncGenerator[Event]:
        pace = self._pace(options, steps=task.steps or 1, seed=task.seed)
        yield Stage(name="synthesise")
        reading = read_prompt(task.prompt)
        audio = await result_from_thread(partial(_compose, task, reading))
        samples = np.zeros((audio.length, task.channels), np.float32)
        start = 0
        for index in range(1, pace.steps + 1):
            await pace.step(index)
            stop = audio.length * index // pace.steps
            await result_from_thread(partial(audio.fill, samples, start, stop))
            start, preview = stop, None
            if task.preview_interval and index % task.preview_interval == 0:
                draw = partial(preview_waveform, samples[:stop], index / pace.steps)
                preview = await result_from_thread(draw)
            yield Step(index=index, total=pace.steps, preview=preview)
        await result_from_thread(partial(audio.finish, samples))
        if task.init_audio is not None and task.continuation:
            await result_from_thread(partial(continue_audio, samples, task.init_audio))
        elif task.init_audio is not None:
            mix = partial(mix_in, samples, task.init_audio, task.strength, loops=task.seamless_loop)
            await result_from_thread(mix)
        yield Output(
            media=Samples(array=samples, sample_rate=task.sample_rate),
            seed=task.seed,
            notes=(_describe_reading(reading),),
        )

    async def _image(self, task: ImageTask, seed: int, font_size: int | None) -> SourceImage:
        if self._source.instant:
            return self._source.make_image(task, seed, font_size)
        return await result_from_thread(partial(self._source.make_image, task, seed, font_size))

    async def _preview(self, image: Image.Image, done: float) -> Encoded:
        longest = self._config.preview_pixels
        return await result_from_thread(partial(_blend_preview, image, done, longest))

    def _pace(self, options: SketchOptions, *, steps: int, seed: int) -> _Pace:
        config = self._config
        delay = config.delay_seconds if options.delay_seconds is None else options.delay_seconds
        fails = _should_fail(seed, config.fail_rate) if options.fail is None else options.fail
        hangs = config.hang if options.hang is None else options.hang
        fails_at = steps // 2 + 1 if fails else None
        return _Pace(steps=steps, delay_seconds=delay / steps, fails_at=fails_at, hangs=hangs)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pace:
    """Delay and failure of a task."""

    steps: int
    delay_seconds: float
    fails_at: int | None
    hangs: bool

    async def step(self, index: int) -> None:
        """Wait for the time of one step; without a delay other tasks have a turn every few steps."""
        if self.delay_seconds or index % _STEPS_AT_ONCE == 0:
            await asyncio.sleep(self.delay_seconds)
        if self.hangs:
            await asyncio.Event().wait()
        if index == self.fails_at:
            raise EngineFailedError(f"the sketch engine failed at step {index}, as configured")


def _make_drawn_source(config: SketchConfig) -> DrawnSource:
    return DrawnSource(style=config.placeholder_style, palette=Palette.of(config.colors))


def _compose(task: AudioTask, reading: Reading) -> Chord | Scene:
    """What the prompt asks for; a chord if it asks for nothing that is known here."""
    return Scene(task, reading) if reading.requests else Chord(task)


def _describe_reading(reading: Reading) -> Note:
    told = reading.describe()
    if reading.requests:
        return Note(field="prompt", text=told)
    chord = "a chord stands in, since no word names what this engine can make"
    return Note(field="prompt", text=f"{chord}; {told}" if told else chord, emulated=True)


def _should_fail(seed: int, rate: float) -> bool:
    return zlib.crc32(b"fail %d" % seed) < rate * 2**32


def _blend_preview(image: Image.Image, done: float, longest: int) -> Encoded:
    """A preview in blocks that become finer with progress; `done` is 0 to 1."""
    small = image.copy()
    small.thumbnail((longest, longest), Image.Resampling.BILINEAR)
    coarse = (max(1, round(small.width * done**2)), max(1, round(small.height * done**2)))
    blocks = small.resize(coarse, Image.Resampling.BOX).resize(small.size, Image.Resampling.NEAREST)
    return preview_from_image(blocks, max_side=longest)
