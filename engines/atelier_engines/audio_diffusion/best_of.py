"""Makes several candidates of a task's clip, and gives the one that matches the prompt best."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch

from atelier_engines.audio_diffusion.sampling import DenoiseRequest
from atelier_engines.capabilities import MAX_SEED
from atelier_engines.event import Event, Note, Output, Stage, Step
from atelier_engines.local import errors
from atelier_engines.local.step_scheduler import StepCoroutine
from atelier_engines.media import Samples
from atelier_engines.task import AudioTask
from atelier_engines.threads import Emit

AudioCoroutine = StepCoroutine[DenoiseRequest, torch.Tensor]
"""Makes one clip: yields requests for the denoiser, is sent the predictions. See StepCoroutine."""
ClipCoroutine = Generator[DenoiseRequest | None, torch.Tensor, Samples]
"""The same, which returns the clip."""
_CPU = torch.device("cpu")


class Scorer(Protocol):
    """Scores how well audio matches a prompt."""

    def score(self, audio: Samples, prompt: str) -> Generator[None, object, float]:
        """The higher, the better; yields where other clips may advance."""


def load_scorer(load: Callable[[], Scorer]) -> Scorer:
    """The scorer; raises as `AudioPipeline.start`."""
    with errors.translate_inference("loading the model of prompt_match", _CPU):
        return load()


def score_clip(
    load: Callable[[], Scorer], clip: Samples, prompt: str
) -> Generator[DenoiseRequest | None, torch.Tensor, float]:
    """The score of a clip; raises as `AudioPipeline.start`."""
    scorer = load_scorer(load)
    with errors.translate_inference("scoring a clip", _CPU):
        return (yield from scorer.score(clip, prompt))


@dataclass(slots=True, kw_only=True)
class BestOf:
    """The candidates of one task. They share runs of the denoiser as the clips of several tasks do."""

    task: AudioTask
    """Says how many there are; each has the seed after that of the one before, 0 after the largest."""
    make: Callable[[AudioTask, Emit], ClipCoroutine]
    """Makes the clip of one candidate."""
    load: Callable[[], Scorer]
    """What scores them, loaded with the first call. Raises as `AudioPipeline.start`."""
    emit: Emit
    """Where the task's events go."""
    _stage: str = ""
    _steps: int = 0
    _scores: dict[int, float] = field(default_factory=dict)
    """By seed."""
    _best: Output | None = None

    def coroutines(self) -> list[AudioCoroutine]:
        """One for each candidate; the one that ends last emits the output."""
        first = self.task.seed
        seeds = [(first + index) % (MAX_SEED + 1) for index in range(self.task.candidates)]
        return [
            self._run(replace(self.task, seed=seed, candidates=1, preview_interval=0))
            for seed in seeds
        ]

    def _run(self, task: AudioTask) -> AudioCoroutine:
        load_scorer(self.load)
        clip = yield from self.make(task, _Follower(self))
        self.enter("score")
        score = yield from score_clip(self.load, clip, task.prompt)
        self._add(Output(media=clip, seed=task.seed, score=score), score)

    def enter(self, stage: str) -> None:
        """Tell the stage, if it is another than that of what was told last."""
        if stage != self._stage:
            self._stage = stage
            self.emit(Stage(name=stage))

    def step(self, total: int) -> None:
        """Tell a step of a candidate, which takes so many."""
        self._steps += 1
        self.emit(Step(index=self._steps, total=total * self.task.candidates))

    def _add(self, made: Output, score: float) -> None:
        """Keep the better one; of equal ones that of the lower seed, whichever ended first."""
        self._scores[made.seed] = score
        best = self._best
        if best is None or (score, -made.seed) > (self._scores[best.seed], -best.seed):
            self._best = best = made
        if len(self._scores) == self.task.candidates:
            self.emit(replace(best, notes=self._describe(best.seed)))

    def _describe(self, chosen: int) -> tuple[Note, ...]:
        scores = (f"seed {seed} {score:.4f}" for seed, score in sorted(self._scores.items()))
        text = f"prompt match: {', '.join(scores)}; the highest is returned, of seed {chosen}"
        return (
            Note(field="candidates", text=text),
            Note(field="seed", text=f"that of the first candidate; the returned one has {chosen}"),
        )


@dataclass(slots=True)
class _Follower:
    """Tells the events of one candidate as those of its task."""

    best_of: BestOf
    stage: str = ""

    def __call__(self, event: Event) -> None:
        """See Emit."""
        if isinstance(event, Stage):
            self.stage = event.name
        self.best_of.enter(self.stage)
        if isinstance(event, Step):
            self.best_of.step(event.total)
