"""Counts a task's steps over all its jobs and their sampler nodes, and assigns previews to steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from atelier_engines.event import Step
from atelier_engines.media import Encoded
from atelier_engines.vendors.comfyui.messages import NodeProgress
from atelier_engines.vendors.comfyui.sampling import SamplerSteps


@dataclass(slots=True, kw_only=True)
class StepCounter:
    """Counts steps in ascending order, even if the server repeats or omits messages."""

    samplers: SamplerSteps
    """Steps of each sampler node; the progress of other nodes is not counted."""
    jobs: int
    """Number of the task's jobs."""
    interval: int
    """Steps between two previews; 0 for no previews."""
    _parts: dict[tuple[int, str], float] = field(default_factory=dict)
    _done: int = 0
    _held: Step | None = field(default=None)

    @property
    def steps_per_job(self) -> int:
        """Steps of all sampler nodes of one job; 0 if it has none."""
        return sum(self.samplers.values())

    def count(self, job: int, progress: NodeProgress) -> Iterator[Step]:
        """Yield the steps that job number `job`, from 0, has completed.

        A node may make fewer or more steps than it names; then its part of them counts. A step that is due for a
        preview is held until the preview or the next step arrives.
        """
        if progress.node not in self.samplers or progress.maximum <= 0:
            return
        part = min(max(progress.value / progress.maximum, 0.0), 1.0)
        key = (job, progress.node)
        self._parts[key] = max(part, self._parts.get(key, 0.0))
        done = sum(
            self._parts.get((job, node), 0.0) * steps for node, steps in self.samplers.items()
        )
        yield from self._advance_to(job * self.steps_per_job + int(done + 1e-6))

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
