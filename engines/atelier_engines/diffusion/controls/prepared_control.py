"""A control of a task, ready to be followed, and how strongly it is at each run of the denoiser."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from atelier_engines.diffusion import image_tensors
from atelier_engines.diffusion.controls.preprocessing import ControlPreprocessor
from atelier_engines.diffusion.runtimes.base import Runtime
from atelier_engines.task import Control


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedControl:
    """A control whose map lies on the device."""

    network: str
    """The ControlNet's name: the control's type."""
    map: torch.Tensor
    """(1, 3, height, width) in pixels, 0 to 1, in the runtime's dtype."""
    strength: float
    """What its residuals are multiplied by."""
    start: float
    """Fraction of the denoising from which it is followed."""
    end: float
    """Fraction of the denoising until which it is followed."""


def prepare(
    control: Control, *, maps: ControlPreprocessor, runtime: Runtime, width: int, height: int
) -> PreparedControl:
    """The control of a picture of that size in pixels; a map is computed if it is asked for.

    Raises:
        UnsupportedError: no model is configured that makes maps of this kind.
        ModelMissingError: that model's weights are broken.
    """
    found = maps.control_map(control, width=width, height=height)
    tensor = image_tensors.to_tensor(found, width=width, height=height)
    return PreparedControl(
        network=control.type.value,
        map=tensor.to(device=runtime.device, dtype=runtime.dtype),
        strength=control.strength,
        start=control.start,
        end=control.end,
    )


def scale_at(control: PreparedControl, run: int, runs: int) -> float:
    """What its residuals are multiplied by in a run of the denoiser; 0 where it is not followed.

    Args:
        control: the control.
        run: which run it is, from 0.
        runs: how many there are, from the picture's start to its end.

    Source: diffusers 0.42.1, StableDiffusionXLControlNetPipeline, `controlnet_keep`.
    """
    outside = run / runs < control.start or (run + 1) / runs > control.end
    return control.strength * (1.0 - float(outside))
