"""Turns what RunPod says about jobs into events that never go backwards."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from atelier_engines.event import Stage, Step
from atelier_engines.vendors.runpod.wire import ENDED, WAITING, Progress, State, Workers


class Progression:
    """Of one task with one or more jobs, which are followed one after the other."""

    def __init__(self, *, steps: int, jobs: int) -> None:
        """Count `steps` denoising steps in each of the jobs; 0 when there are none to count."""
        self._steps = steps
        self._total = steps * jobs
        self._reached = 0
        self._stage = "submit"

    def of_state(self, number: int, state: State | Workers) -> Iterator[Stage | Step]:
        """What is new; `number` counts the jobs from 0."""
        if isinstance(state, Workers):
            if state.starting:  # else it stays what the job's own state says
                yield from self._entering("start")
            return
        if state.status in WAITING:
            if self._stage != "start":
                yield from self._entering("queued")
            return
        if state.status not in ENDED:
            yield from self._entering("generate")
            done = self._done(state)
            if done:
                yield from self._at_least(number * self._steps + done)
        elif state.status == "COMPLETED" and self._reached:
            yield from self._at_least((number + 1) * self._steps)

    def _entering(self, name: str) -> Iterator[Stage]:
        if name != self._stage:
            self._stage = name
            yield Stage(name=name)

    def _done(self, state: State) -> int:
        """Steps that are done; worker-comfyui tells none, workers of one's own may."""
        try:
            told = Progress.model_validate(state.output)
        except ValidationError:
            return 0
        return told.step if told.total == self._steps and 0 < told.step <= told.total else 0

    def _at_least(self, step: int) -> Iterator[Step]:
        if step > self._reached:
            self._reached = step
            yield Step(index=step, total=self._total)
