"""What a diffusion engine tells of a task's progress."""

from __future__ import annotations

from atelier_engines.event import Output, Stage, Step
from atelier_engines.media import Encoded
from atelier_engines.threads import Emit


class TaskProgress:
    """Emits the stages and steps of a task, whose images advance together."""

    def __init__(self, emit: Emit, images: int) -> None:
        """Of a task with so many images; events go to `emit`."""
        self._emit = emit
        self._images = images
        self._unfinished = images
        self._stage = ""
        self._steps_done = 0
        self.steps_per_image = 0
        """Known when the first image is denoised."""

    def enter_stage(self, name: str) -> None:
        """Emit that the task has entered a stage, once for all images that do so together."""
        if name != self._stage:
            self._stage = name
            self._emit(Stage(name=name))

    def finish_step(self, preview: Encoded | None = None) -> None:
        """Emit that one more step of the task is done."""
        self._steps_done += 1
        total = self.steps_per_image * self._images
        self._emit(Step(index=self._steps_done, total=total, preview=preview))

    def finish_image(self, output: Output) -> None:
        """Emit an image; the task goes back to denoising while others are unfinished."""
        self._emit(output)
        self._unfinished -= 1
        if self._unfinished:
            self.enter_stage("denoise")
