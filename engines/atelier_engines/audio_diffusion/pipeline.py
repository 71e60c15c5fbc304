"""Makes audio with one loaded model.

The way of a clip reads from top to bottom in `AudioPipeline.make`; where it needs the denoiser it yields a
request, so that one run of the denoiser can serve the clips of several tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from atelier_engines.audio_diffusion import samples
from atelier_engines.audio_diffusion.best_of import (
    AudioCoroutine,
    BestOf,
    ClipCoroutine,
    Scorer,
    score_clip,
)
from atelier_engines.audio_diffusion.initial_audio import (
    count_filled,
    encode_audio,
    encode_beginning,
)
from atelier_engines.audio_diffusion.model import AudioModel
from atelier_engines.audio_diffusion.samples import Chunk
from atelier_engines.audio_diffusion.sampling import (
    Conditioning,
    DenoiseRequest,
    GivenLatents,
    InitialLatents,
    Sampler,
    collate,
    is_guided,
)
from atelier_engines.errors import UnsupportedError
from atelier_engines.event import Output, Stage, Step
from atelier_engines.local import devices, errors
from atelier_engines.local.components import EngineComponents
from atelier_engines.local.random_numbers import make_generator
from atelier_engines.media import Samples
from atelier_engines.options import NoOptions, parse_options
from atelier_engines.seams import begin_with
from atelier_engines.task import AudioTask
from atelier_engines.threads import Emit
from atelier_engines.waveform import preview_waveform


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioPipeline:
    """A loaded model, ready for tasks. For one thread at a time."""

    model: AudioModel
    """The model."""
    load_scorer: Callable[[], Scorer] | None = None
    """Loads what scores candidates with its first call, and returns the same again; None where nothing does."""
    scores_kept_clips: bool = False
    """Whether it scores clips that may be kept for reuse, too."""

    @property
    def components(self) -> EngineComponents:
        """The model's components in the model cache."""
        return self.model.components

    def start(self, task: AudioTask, emit: Emit) -> list[AudioCoroutine]:
        """The coroutine of the task's clip, or of each candidate; it does nothing before its first step.

        When it has ended, in whatever way, the device has done its work. It raises what is thrown into it,
        translated, and:

        Raises:
            InvalidTaskError: a text is longer than the model reads, or an option is unknown.
            UnsupportedError: there are candidates, and nothing is configured that scores them.
            ModelMissingError: what scores them is absent or broken.
            OutOfMemoryError: the clip is too large for the device.
            EngineFailedError: the device failed, or the model produced NaN or infinity.
        """
        parse_options(task, NoOptions)
        if task.candidates == 1:
            return [self._emit_clip(task, emit)]
        if self.load_scorer is None:
            raise UnsupportedError(
                "candidates",
                "nothing scores candidates: set prompt_match in the engine's configuration",
            )
        return BestOf(task=task, make=self.make, load=self.load_scorer, emit=emit).coroutines()

    def _emit_clip(self, task: AudioTask, emit: Emit) -> AudioCoroutine:
        made = yield from self.make(task, emit)
        score = None
        if self.scores_kept_clips and task.reuse and self.load_scorer is not None:
            emit(Stage(name="score"))
            score = yield from score_clip(self.load_scorer, made, task.prompt)
        emit(Output(media=made, seed=task.seed, score=score))

    def make(self, task: AudioTask, emit: Emit) -> ClipCoroutine:
        """Make the clip of a task, or of one candidate."""
        device = self.model.components.device
        work = f"audio of {task.duration_seconds:g} s"
        with (
            errors.translate_inference(work, device, hint=lambda: "ask for a shorter duration"),
            self.model.components.task(),
        ):
            try:
                emit(Stage(name="encode_text"))
                guidance = self.model.info.guidance if task.guidance is None else task.guidance
                conditioning = self.model.encode(task, guided=is_guided(guidance))
                conditioning, initial = yield from self._encode_audio(task, conditioning, emit)
                sampler = self._create_sampler(task, guidance, initial)
                chunks = self._plan_decoding(task)
                progress = _Progress(emit, sampler.steps, len(chunks), task.preview_interval)
                emit(Stage(name="denoise"))
                yield from self._denoise(sampler, conditioning, progress)
                yield None  # the task may be closed, instead of waiting for the end of the decoding
                emit(Stage(name="decode"))
                return (yield from self._decode(sampler.latents, task, chunks, progress))
            finally:
                devices.synchronize(device)

    def predict(self, requests: Sequence[DenoiseRequest]) -> tuple[torch.Tensor, ...]:
        """Run the denoiser once for requests of one key, and return the prediction for each."""
        prediction = self.model.denoise(*collate(requests))
        parts: tuple[torch.Tensor, ...] = torch.split(prediction, [len(one) for one in requests])
        return parts

    def _encode_audio(
        self, task: AudioTask, conditioning: Conditioning, emit: Emit
    ) -> Generator[None, torch.Tensor, tuple[Conditioning, InitialLatents | GivenLatents | None]]:
        """What the denoiser is told of the initial audio, too, and what the task begins with; None for noise alone."""
        if task.init_audio is None:
            return conditioning, None
        emit(Stage(name="encode_audio"))
        model, device = self.model, self.model.components.device

        def encode(wave: torch.Tensor) -> torch.Tensor:
            return model.encode_audio(wave.to(device))

        def draw(generator: torch.Generator) -> torch.Tensor:
            return model.draw_latents(parameters, generator)

        count = model.count_latents(task)
        if not task.continuation:
            parameters = yield from encode_audio(encode, model.codec, task.init_audio, count)
            return conditioning, InitialLatents(draw=draw, strength=task.strength)
        parameters = yield from encode_beginning(encode, model.codec, task.init_audio)
        told = model.condition_on(conditioning, parameters, count)
        if told is None:
            return conditioning, GivenLatents(draw=draw, axis=model.latent_axis)
        return told, None

    def _create_sampler(
        self, task: AudioTask, guidance: float, initial: InitialLatents | GivenLatents | None
    ) -> Sampler:
        return Sampler(
            self.model.schedule(self.model.info.steps if task.steps is None else task.steps),
            self.model.latent_shape(self.model.count_latents(task)),
            guidance=guidance,
            generator=make_generator(task.seed),
            device=self.model.components.device,
            initial=initial,
        )

    def _denoise(
        self, sampler: Sampler, conditioning: Conditioning, progress: _Progress
    ) -> AudioCoroutine:
        while not sampler.is_finished:
            inputs = sampler.model_input()
            prediction = yield DenoiseRequest(inputs=inputs, conditioning=conditioning)
            sampler.step(prediction)
            # A GPU queues many steps ahead; waiting here keeps the progress true, and leaves at most one
            # step to do after a cancellation.
            devices.synchronize(self.model.components.device)
            progress.step()

    def _count_frames(self, task: AudioTask) -> int:
        return round(task.duration_seconds * self.model.info.sample_rate)

    def _plan_decoding(self, task: AudioTask) -> list[Chunk]:
        """The pieces that the duration needs."""
        codec = self.model.codec
        wanted = codec.count_latents(self._count_frames(task))
        return list(samples.plan_chunks(wanted, self.model.count_latents(task), codec.reach))

    def _decode(
        self, latents: torch.Tensor, task: AudioTask, chunks: Sequence[Chunk], progress: _Progress
    ) -> Generator[None, torch.Tensor, Samples]:
        """Decode piece by piece; other clips advance between two pieces."""
        codec, frames = self.model.codec, self._count_frames(task)
        pieces: list[torch.Tensor] = []
        for chunk in chunks:
            decoded = self.model.decode(latents, chunk.start, chunk.stop)
            first = (chunk.keep_start - chunk.start) * codec.hop
            length = (chunk.keep_stop - chunk.keep_start) * codec.hop
            pieces.append(decoded[:, first : first + length])
            progress.show(pieces)
            yield
        made = samples.join(pieces, frames=frames)
        if task.init_audio is not None and task.continuation:
            filled = count_filled(codec, task.init_audio) * codec.hop
            begin_with(task.init_audio.array, made, seam=filled, fade=codec.hop)
        return samples.finish(made, rate=self.model.info.sample_rate)


class _Progress:
    """Tells the steps of a clip, and where previews are asked for the pieces that are decoded, as steps with one."""

    def __init__(self, emit: Emit, steps: int, pieces: int, preview_interval: int) -> None:
        self._emit = emit
        self._interval = preview_interval
        self._pieces = pieces
        self._total = steps + (pieces if preview_interval else 0)
        self._done = 0

    def step(self) -> None:
        """Tell that a step of the denoiser is done."""
        self._done += 1
        self._emit(Step(index=self._done, total=self._total))

    def show(self, pieces: Sequence[torch.Tensor]) -> None:
        """Tell that a piece is decoded, the last of these; each is (channels, samples)."""
        if not self._interval:
            return
        self._done += 1
        preview = None
        if len(pieces) % self._interval == 0 or len(pieces) == self._pieces:
            wave = torch.cat(list(pieces), dim=-1).float().cpu().T.numpy()
            preview = preview_waveform(np.nan_to_num(wave), len(pieces) / self._pieces)
        self._emit(Step(index=self._done, total=self._total, preview=preview))
