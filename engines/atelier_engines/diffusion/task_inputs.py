"""Prepares what all images of a task share: encoded prompts, control maps, initial image and mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from atelier_engines.diffusion import image_tensors, masks
from atelier_engines.diffusion.config import MaskMode
from atelier_engines.diffusion.controls.prepared_control import PreparedControl, prepare
from atelier_engines.diffusion.controls.preprocessing import ControlPreprocessor
from atelier_engines.diffusion.embeddings.reading import TextualInversion
from atelier_engines.diffusion.families.family import Family
from atelier_engines.diffusion.loras.adapters import LoraKey
from atelier_engines.diffusion.masks import Composite
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
    composite: Composite | None = None
    """Keeps what the mask keeps; None where there is no mask, or where the autoencoder may change it."""

    def compose(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A decoded image, (height, width, 3), with what the mask keeps."""
        return image if self.composite is None else self.composite.apply(image)


def prepare_inputs(
    task: ImageTask,
    *,
    family: Family,
    guidance: float,
    loras: LoraKey,
    inversions: Sequence[TextualInversion],
    preprocessor: ControlPreprocessor | None,
    mask_mode: MaskMode,
    enter_stage: Callable[[str], None],
) -> TaskInputs:
    """Encode the prompts and convert the images of a task.

    Args:
        task: the task.
        family: the model; its LoRAs are set already.
        guidance: classifier-free guidance scale.
        loras: the LoRAs that are active in the text encoders.
        inversions: the textual inversions whose names in the prompts stand for their vectors.
        preprocessor: makes the control maps; None where the engine has no ControlNets.
        mask_mode: what the mask means.
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
        inversions=inversions,
        clip_skip=task.clip_skip,
    )
    controls: tuple[PreparedControl, ...] = ()
    if preprocessor is not None and task.controls:
        enter_stage("control")
        controls = _prepare_controls(task, preprocessor, family)
    size = {"width": task.width, "height": task.height}
    init_image = task.init_image
    mask, composite = _prepare_mask(task, family, mask_mode)
    return TaskInputs(
        conditioning=conditioning,
        controls=controls,
        init_image=None
        if init_image is None
        else image_tensors.to_tensor(init_image, **size) * 2 - 1,
        mask=mask,
        composite=composite,
    )


def _prepare_controls(
    task: ImageTask, preprocessor: ControlPreprocessor, family: Family
) -> tuple[PreparedControl, ...]:
    return tuple(
        prepare(
            control,
            preprocessor=preprocessor,
            runtime=family.runtime,
            width=task.width,
            height=task.height,
        )
        for control in task.controls
    )


def _prepare_mask(
    task: ImageTask, family: Family, mask_mode: MaskMode
) -> tuple[torch.Tensor | None, Composite | None]:
    """The mask, and what keeps the rest; the mask is then full in every pixel of the latents that it touches."""
    if task.mask is None or task.init_image is None:
        return None, None
    size = {"width": task.width, "height": task.height}
    if mask_mode == "latent":
        return image_tensors.to_mask(task.mask, **size), None
    mask = masks.to_covering_mask(task.mask, **size)
    cell = task.width // family.latent_shape(**size)[-1]
    return masks.fill_cells(mask, cell), masks.make_composite(task.init_image, mask, **size)
