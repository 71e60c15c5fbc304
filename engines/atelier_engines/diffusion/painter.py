"""Paints pictures with one loaded model: encodes the text, denoises, decodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from atelier_engines.diffusion import faults, schedulers
from atelier_engines.diffusion.capabilities import Facts
from atelier_engines.diffusion.denoising import Denoising
from atelier_engines.diffusion.families.sdxl import Sdxl
from atelier_engines.diffusion.previews import Previewer
from atelier_engines.diffusion.runtimes.base import Conditioning
from atelier_engines.diffusion.schedulers import Scheduler
from atelier_engines.errors import EngineFailedError
from atelier_engines.event import Output, Stage, Step
from atelier_engines.media import Encoded, Pixels
from atelier_engines.task import ImageTask
from atelier_engines.threads import Emit


@dataclass(frozen=True, slots=True, kw_only=True)
class Painter:
    """A loaded model and everything it takes to paint with it. Used by one thread at a time."""

    family: Sdxl
    """The model."""
    scheduler: Scheduler
    """The model's own, for its noise schedule; never stepped."""
    previewer: Previewer
    """Makes the previews."""
    facts: Facts
    """What capabilities say about the model."""

    def paint(self, task: ImageTask, emit: Emit) -> None:
        """Paint one picture a seed, one after the other, so that none depends on its neighbours.

        However it ends, the device is idle afterwards.

        Raises:
            InvalidTaskError: the scheduler cannot work in so many steps.
            OutOfMemoryError: the picture is too large for the device.
            EngineFailedError: the device failed, or the networks made numbers that are none.
        """
        runtime = self.family.runtime
        doing = f"a picture of {task.width} x {task.height} pixels"
        with faults.of_work(doing, runtime.device), torch.inference_mode():
            try:
                self._paint(task, emit)
            finally:
                runtime.synchronize()

    def probe(self) -> None:
        """Return if the device computes.

        Raises:
            EngineFailedError: it does not.
        """
        runtime = self.family.runtime
        with faults.of_work("a tiny sum", runtime.device), torch.inference_mode():
            if torch.ones(8, device=runtime.device).sum().item() != 8:  # noqa: PLR2004
                raise EngineFailedError(f"{runtime.device} cannot add")

    def _paint(self, task: ImageTask, emit: Emit) -> None:
        emit(Stage(name="encode_text"))
        conditioning = self.family.condition(
            task.prompt,
            task.negative_prompt,
            guidance=self._guidance(task),
            width=task.width,
            height=task.height,
        )
        for number, seed in enumerate(task.seeds):
            emit(Stage(name="denoise"))
            denoising = self._begin(task, seed)
            self._denoise(denoising, conditioning, task, emit, number)
            emit(Stage(name="decode"))
            picture = _pixels(self.family.decode(denoising.latents))
            emit(Output(media=Pixels(array=picture), seed=seed))

    def _begin(self, task: ImageTask, seed: int) -> Denoising:
        runtime, defaults = self.family.runtime, self.facts
        return Denoising(
            scheduler=schedulers.make(
                task.scheduler or defaults.scheduler,
                self.scheduler,
                steps=task.steps if task.steps is not None else defaults.steps,
                device=runtime.device,
            ),
            shape=self.family.latent_shape(task.width, task.height),
            guidance=self._guidance(task),
            seed=seed,
            device=runtime.device,
            dtype=runtime.dtype,
        )

    def _denoise(
        self,
        denoising: Denoising,
        conditioning: Conditioning,
        task: ImageTask,
        emit: Emit,
        number: int,
    ) -> None:
        """Take picture `number` of the task from noise to latents."""
        runtime = self.family.runtime
        total = denoising.steps * len(task.seeds)
        before = denoising.steps * number
        while not denoising.finished:
            done = denoising.steps_done
            rows = denoising.rows()
            prediction = runtime.denoise(rows.latents, rows.timesteps, conditioning)
            guided = denoising.advance(prediction)
            if denoising.steps_done == done:
                continue  # half a step of a second-order scheduler
            preview: Encoded | None = None
            if task.preview_interval and denoising.steps_done % task.preview_interval == 0:
                preview = self.previewer.preview(denoising.clean(rows, guided))
            # A GPU takes orders for many steps ahead; waiting here keeps the progress true and
            # leaves at most one step to do when the caller goes.
            runtime.synchronize()
            emit(Step(index=before + denoising.steps_done, total=total, preview=preview))

    def _guidance(self, task: ImageTask) -> float:
        return task.guidance if task.guidance is not None else self.facts.guidance


def _pixels(picture: torch.Tensor) -> NDArray[np.uint8]:
    """(height, width, 3) of a picture, (1, 3, height, width), about -1 to 1.

    Raises:
        EngineFailedError: the picture holds something else than numbers.
    """
    if not torch.isfinite(picture).all():
        raise EngineFailedError(
            "the networks made numbers that are none (an overflow); "
            "configure another precision, bfloat16 or float32, or other weights"
        )
    scaled = (picture[0] * 0.5 + 0.5).clamp(0, 1).float()
    bytes_ = (scaled * 255).round().to(torch.uint8)
    array: NDArray[np.uint8] = bytes_.permute(1, 2, 0).contiguous().cpu().numpy()
    return array
