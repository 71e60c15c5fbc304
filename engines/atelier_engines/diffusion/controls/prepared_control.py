"""A control of a task with its map on the device, and its scale at each run of the denoiser."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from atelier_engines.diffusion import image_tensors
from atelier_engines.diffusion.controls.preprocessing import ControlPreprocessor
from atelier_engines.diffusion.runtimes.base import Runtime
from atelier_engines.task import Control


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedControl:
    """A control whose map is on the device."""

    network: str
    """The ControlNet's name: the control's type."""
    map: torch.Tensor
    """(1, 3, height, width) in pixels, 0 to 1, in the runtime's dtype."""
    strength: float
    """Factor of its residuals."""
    start: float
    """Fraction of the denoising at which it becomes active."""
    end: float
    """Fraction of the denoising at which it ends."""

    def scale_at(self, run: int, runs: int) -> float:
        """The factor of its residuals in one run of the denoiser; 0 where it is not active.

        Args:
            run: the run's number, from 0.
            runs: number of runs of the whole image.

        Source: diffusers 0.42.1, StableDiffusionXLControlNetPipeline, `controlnet_keep`.
        """
        outside = run / runs < self.start or (run + 1) / runs > self.end
        return self.strength * (1.0 - float(outside))


def prepare(
    control: Control,
    *,
    preprocessor: ControlPreprocessor,
    runtime: Runtime,
    width: int,
    height: int,
) -> PreparedControl:
    """Put a control's map, in that size in pixels, on the device; compute it where the task asks for it.

    Raises:
        UnsupportedError: no model is configured that computes maps of this type.
        ModelMissingError: that model's weights are broken.
    """
    pixels = preprocessor.get_map(control, width=width, height=height)
    tensor = image_tensors.to_tensor(pixels, width=width, height=height)
    return PreparedControl(
        network=control.type.value,
        map=tensor.to(device=runtime.device, dtype=runtime.dtype),
        strength=control.strength,
        start=control.start,
        end=control.end,
    )
