"""What an engine can claim for a workflow."""

from __future__ import annotations

from collections.abc import Iterable

from atelier_engines.capabilities import ImageFeature
from atelier_engines.workflows.bindings import Slot
from atelier_engines.workflows.workflow import Workflow


def supported_features(workflow: Workflow) -> frozenset[ImageFeature]:
    """Every feature that the workflow has inputs for; never PREVIEW or UPSCALING.

    SCHEDULER is included if there is a choice; CONTROLNET and LORA if the workflow takes them at all:
    an engine that has no ControlNet or LoRA files removes them.
    """
    bindings = workflow.bindings
    has = bindings.slots.keys()
    claims = {
        ImageFeature.IMAGE_TO_IMAGE: Slot.INIT_IMAGE in has and Slot.MASK not in has,
        ImageFeature.INPAINTING: Slot.MASK in has,
        ImageFeature.NEGATIVE_PROMPT: Slot.NEGATIVE_PROMPT in has,
        ImageFeature.SEED: Slot.SEED in has,
        ImageFeature.SCHEDULER: len(bindings.samplers) > 1,
        ImageFeature.LORA: bindings.loras is not None,
        ImageFeature.CONTROLNET: bindings.controls is not None,
    }
    return frozenset(feature for feature, claimed in claims.items() if claimed)


def list_schedulers(workflow: Workflow) -> tuple[str, ...]:
    """Scheduler names of the API that the workflow knows, the default first."""
    return tuple(workflow.bindings.samplers)


def find_fixed_model(workflows: Iterable[Workflow]) -> Workflow | None:
    """The first workflow that loads a model of its own, whatever a task names; None if all take the task's."""
    return next((one for one in workflows if Slot.MODEL not in one.bindings.slots), None)


def max_loras(workflow: Workflow) -> int:
    """Maximum of LoRAs in one task; 0 if the workflow takes none."""
    return 0 if workflow.bindings.loras is None else workflow.bindings.loras.max_count
