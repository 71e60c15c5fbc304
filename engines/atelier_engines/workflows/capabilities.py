"""What an engine can claim for a workflow."""

from __future__ import annotations

from atelier_engines.capabilities import ImageFeature
from atelier_engines.workflows.bindings import Slot
from atelier_engines.workflows.workflow import Workflow


def features(workflow: Workflow) -> frozenset[ImageFeature]:
    """Everything that the workflow has places for. PREVIEW and UPSCALING are never among it.

    SCHEDULER is claimed where there is a choice, CONTROLNET and LORA wherever there is a place for them:
    an engine that knows no ControlNet or no LoRA to put there takes them away again.
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


def schedulers(workflow: Workflow) -> tuple[str, ...]:
    """Samplers by the names that callers know, the default first."""
    return tuple(workflow.bindings.samplers)


def most_loras(workflow: Workflow) -> int:
    """LoRAs in one task."""
    return 0 if workflow.bindings.loras is None else workflow.bindings.loras.most
