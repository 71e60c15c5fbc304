"""Turns what fal says about jobs into events that never go backwards."""

from __future__ import annotations

import re
from collections.abc import Iterator

from atelier_engines.event import Stage, Step
from atelier_engines.vendors.fal.wire import State

_COUNT = re.compile(r"(\d{1,4})/(\d{1,4}) \[")
"""As tqdm, which counts the steps of diffusers and ComfyUI, writes it: 50%|█████     | 2/4 [00:01<00:01]."""


class Progress:
    """Of one task with one or more jobs, which are followed one after the other."""

    def __init__(self, *, steps: int, jobs: int) -> None:
        """Count `steps` denoising steps in each of the jobs; 0 when there are none to count."""
        self._steps = steps
        self._total = steps * jobs
        self._reached = 0
        self._stage = Stage(name="submit")

    def of_state(self, number: int, state: State) -> Iterator[Stage | Step]:
        """What is new; `number` counts the jobs from 0."""
        stage = Stage(name="generate")
        if state.status == "IN_QUEUE":
            stage = Stage(name="queued", queue_position=state.queue_position)
        if stage != self._stage and not state.completed:
            self._stage = stage
            yield stage
        done = max((self._counted(line.message) for line in state.logs or ()), default=0)
        if done:
            yield from self._at_least(number * self._steps + done)
        if state.completed and self._reached:
            yield from self._at_least((number + 1) * self._steps)

    def _counted(self, line: str) -> int:
        """Steps that are done by that line; 0 unless it counts to just as many as the job has."""
        counts = [(int(done), int(of)) for done, of in _COUNT.findall(line)]
        return max((done for done, of in counts if of == self._steps and done <= of), default=0)

    def _at_least(self, step: int) -> Iterator[Step]:
        if step > self._reached:
            self._reached = step
            yield Step(index=step, total=self._total)
