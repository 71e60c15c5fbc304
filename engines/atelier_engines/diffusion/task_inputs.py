"""Prepares what all images of a task share: encoded prompts, control maps, initial image and mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from atelier_engines.diffusion import image_tensors
from atelier_engines.diffusion.controls.prepared_control import PreparedControl, prepare
from atelier_engines.diffusion.controls.preprocessing import ControlPreprocessor
from atelier_engines.diffusion.families.family import Family
from atelier_engines.diffusion.loras.adapters import LoraKey
from atelier_engines.diffusion.runtimes.base import Conditioning
from atelier_engines.task import ImageTask


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInputs:
    """The inputs of a task, on the device."""

    conditioning: Conditioning
    """The encoded prompts."""
    controls: tuple[PreparedControl, ...]
    """In the order of the task."""
    init_image: torch.Tensor | None
    """(1, 3, height, width) of -1 to 1; None for text-to-image."""
    mask: torch.Tensor | None
    """(1, 1, height, width), 1 where the image is inpainted, else 0; None where there is no mask."""


def prepare_inputs(
    task: ImageTask,
    *,
    family: Family,
    guidance: float,
    loras: LoraKey,
    preprocessor: ControlPreprocessor | None,
    enter_stage: Callable[[str], None],
) -> TaskInputs:
    """Encode the prompts and convert the images of a task.

    Args:
        task: the task.
        family: the model; its LoRAs are set already.
        guidance: classifier-free guidance scale.
        loras: the LoRAs that are active in the text encoders.
        preprocessor: makes the control maps; None where the engine has no ControlNets.
        enter_stage: called with the name of each stage as it begins.

    Raises:
        UnsupportedError: no preprocessor is configured for one of the controls.
        ModelMissingError: a preprocessor's weights are broken.
    """
    enter_stage("encode_text")
    conditioning = family.condition(
        task.prompt,
        task.negative_prompt,
        guidance=guidance,
        width=task.width,
        height=task.height,
        adapters=loras,
    )
    controls: list[PreparedControl] = []
    if preprocessor is not None and task.controls:
        enter_stage("control")
        controls = [
            prepare(
                control,
                preprocessor=preprocessor,
                runtime=family.runtime,
                width=task.width,
                height=task.height,
            )
            for control in task.controls
        ]
    size = {"width": task.width, "height": task.height}
    init_image, mask = task.init_image, task.mask
    return TaskInputs(
        conditioning=conditioning,
        controls=tuple(controls),
        init_image=None
        if init_image is None
        else image_tensors.to_tensor(init_image, **size) * 2 - 1,
        mask=None if mask is None else image_tensors.to_mask(mask, **size),
    )
