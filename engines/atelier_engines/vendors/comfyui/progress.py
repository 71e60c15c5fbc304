"""Counts the steps of a task over all its jobs, and gives previews their step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from atelier_engines.event import Step
from atelier_engines.media import Encoded
from atelier_engines.vendors.comfyui.messages import Progress


@dataclass(slots=True, kw_only=True)
class Counter:
    """Steps only ever count up, whatever the server repeats or leaves out."""

    each: int
    """Steps of one job; 0 where there are none to count. Only progress over so many is sampling."""
    jobs: int
    """Jobs of the task."""
    interval: int
    """A preview every so many steps; 0 for none."""
    _done: int = 0
    _awaiting: Step | None = field(default=None)

    def heard(self, job: int, progress: Progress) -> Iterator[Step]:
        """The steps that job number `job`, from 0, has now done.

        One that a preview is due for is held back until the preview comes, or the next step.
        """
        if progress.most == self.each:
            yield from self._reach(job * self.each + min(max(int(progress.value), 0), self.each))

    def finished(self, job: int) -> Iterator[Step]:
        """That job is done, however much of it was heard."""
        yield from self._reach((job + 1) * self.each)
        yield from self.waited()

    def seen(self, preview: Encoded) -> Iterator[Step]:
        """The step that was waiting for a preview."""
        step, self._awaiting = self._awaiting, None
        if step is not None:
            yield Step(index=step.index, total=step.total, preview=preview)

    def waited(self) -> Iterator[Step]:
        """The step that waits for a preview in vain."""
        step, self._awaiting = self._awaiting, None
        if step is not None:
            yield step

    @property
    def wants_preview(self) -> bool:
        """Whether a step is waiting for one."""
        return self._awaiting is not None

    def _reach(self, index: int) -> Iterator[Step]:
        if index <= self._done:
            return
        yield from self.waited()
        due = self.interval and index // self.interval > self._done // self.interval
        self._done = index
        step = Step(index=index, total=self.each * self.jobs)
        if due:
            self._awaiting = step
        else:
            yield step
