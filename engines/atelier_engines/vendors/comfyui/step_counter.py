"""Counts a task's steps over all its jobs, and assigns previews to steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from atelier_engines.event import Step
from atelier_engines.media import Encoded
from atelier_engines.vendors.comfyui.messages import NodeProgress


@dataclass(slots=True, kw_only=True)
class StepCounter:
    """Counts steps in ascending order, even if the server repeats or omits messages."""

    steps_per_job: int
    """Steps of one job; 0 if unknown. Only a node's progress with this maximum is sampling progress."""
    jobs: int
    """Number of the task's jobs."""
    interval: int
    """Steps between two previews; 0 for no previews."""
    _done: int = 0
    _held: Step | None = field(default=None)

    def count(self, job: int, progress: NodeProgress) -> Iterator[Step]:
        """Yield the steps that job number `job`, from 0, has completed.

        A step that is due for a preview is held until the preview or the next step arrives.
        """
        if progress.maximum == self.steps_per_job:
            yield from self._advance_to(
                job * self.steps_per_job + min(max(int(progress.value), 0), self.steps_per_job)
            )

    def finish_job(self, job: int) -> Iterator[Step]:
        """Yield all remaining steps of that job, which has ended."""
        yield from self._advance_to((job + 1) * self.steps_per_job)
        yield from self.release()

    def attach_preview(self, preview: Encoded) -> Iterator[Step]:
        """Yield the held step with this preview."""
        step, self._held = self._held, None
        if step is not None:
            yield Step(index=step.index, total=step.total, preview=preview)

    def release(self) -> Iterator[Step]:
        """Yield the held step without a preview."""
        step, self._held = self._held, None
        if step is not None:
            yield step

    @property
    def wants_preview(self) -> bool:
        """Whether a step is held for a preview."""
        return self._held is not None

    def _advance_to(self, index: int) -> Iterator[Step]:
        if index <= self._done:
            return
        yield from self.release()
        due = self.interval and index // self.interval > self._done // self.interval
        self._done = index
        step = Step(index=index, total=self.steps_per_job * self.jobs)
        if due:
            self._held = step
        else:
            yield step
