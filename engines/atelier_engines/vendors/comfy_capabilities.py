"""Capabilities of engines that run ComfyUI workflows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from atelier_engines.capabilities import (
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    Model,
    NumberRange,
)
from atelier_engines.task import ControlType
from atelier_engines.vendors.comfy_config import WorkflowConfig
from atelier_engines.workflows import Mode, Workflow, max_loras, supported_features
from atelier_engines.workflows.bindings import Slot

_MAX_PROMPT_LENGTH = 10_000
_MAX_SIDE = 4096
_MIN_SIDE = 64
_DEFAULT_SIDE = 1024
_MODES = frozenset({ImageFeature.IMAGE_TO_IMAGE, ImageFeature.INPAINTING})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """Facts about the models of one architecture."""

    grid: int
    """Width and height are multiples of this, in pixels."""
    guidance: NumberRange
    """Range; its default is that of the built-in workflows."""
    steps: int
    """Default steps, those of the built-in workflows."""


_FAMILIES: Mapping[str, _Family] = {
    "sdxl": _Family(grid=8, guidance=NumberRange(min=1.0, max=30.0, default=6.0), steps=25),
    "flux": _Family(grid=16, guidance=NumberRange(min=0.0, max=30.0, default=3.5), steps=20),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What is available where the workflows run."""

    workflows: Mapping[Mode, Workflow]
    """Workflows whose nodes are all available."""
    models: tuple[str, ...]
    """Names of models, the default first."""
    loras: tuple[str, ...]
    """Names of LoRAs."""
    control_types: tuple[ControlType, ...]
    """Control types that have a ControlNet file."""
    schedulers: tuple[str, ...]
    """Scheduler names of the API, the default first."""

    @property
    def features(self) -> frozenset[ImageFeature]:
        """Features that all workflows support, and the modes that one workflow is for."""
        each = [supported_features(workflow) for workflow in self.workflows.values()]
        common = frozenset.intersection(*(one - _MODES for one in each))
        missing = {
            ImageFeature.CONTROLNET: not self.control_types,
            ImageFeature.LORA: not self.loras,
            ImageFeature.SCHEDULER: len(self.schedulers) <= 1,
        }
        modes = frozenset.union(*each) & _MODES
        return (common | modes) - {feature for feature, absent in missing.items() if absent}


def build_capabilities(
    config: WorkflowConfig, inventory: Inventory, *, max_images: int, previews: bool = False
) -> ImageCapabilities:
    """Capabilities of the workflows with the available files."""
    family, features = _FAMILIES[config.family], inventory.features
    workflows = tuple(inventory.workflows.values())
    side = _side_range(config, family.grid)
    steps = IntegerRange(min=1, max=config.max_steps, default=min(family.steps, config.max_steps))
    with_controls = ImageFeature.CONTROLNET in features
    with_loras = ImageFeature.LORA in features
    return ImageCapabilities(
        width=side,
        height=side,
        max_pixels=config.max_pixels,
        features=features | ({ImageFeature.PREVIEW} if previews else frozenset()),
        steps=steps if _all_have_slot(workflows, Slot.STEPS) else None,
        guidance=family.guidance if _all_have_slot(workflows, Slot.GUIDANCE) else None,
        max_images=max_images,
        max_prompt_length=_MAX_PROMPT_LENGTH,
        ignores_strength=_ignores_strength(inventory, Mode.IMG2IMG),
        inpainting_ignores_strength=_ignores_strength(inventory, Mode.INPAINT),
        schedulers=inventory.schedulers if ImageFeature.SCHEDULER in features else (),
        control_types=inventory.control_types if with_controls else (),
        max_controls=_max_controls(workflows) if with_controls else 0,
        models=tuple(Model(name=name, family=config.family) for name in inventory.models),
        loras=inventory.loras if with_loras else (),
        service_reads_embeddings=True,
        max_loras=min(map(max_loras, workflows)) if with_loras else 0,
    )


def minimal_capabilities(config: WorkflowConfig, *, max_images: int) -> ImageCapabilities:
    """Capabilities before it is known which nodes and files are available: sizes alone."""
    side = _side_range(config, _FAMILIES[config.family].grid)
    return ImageCapabilities(
        width=side, height=side, max_pixels=config.max_pixels, max_images=max_images
    )


def names_in_all(lists: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Names that every list has, in the order of the first."""
    first, *others = ([*names] for names in lists)
    return tuple(name for name in first if all(name in names for names in others))


def _side_range(config: WorkflowConfig, grid: int) -> IntegerRange:
    """Sides whose product with some other side stays within `max_pixels`; the default is a square's."""
    longest = min(_MAX_SIDE, config.max_pixels // _MIN_SIDE // grid * grid)
    square = int(config.max_pixels**0.5) // grid * grid
    return IntegerRange(
        min=_MIN_SIDE, max=longest, default=min(_DEFAULT_SIDE, square), multiple_of=grid
    )


def _all_have_slot(workflows: tuple[Workflow, ...], slot: Slot) -> bool:
    return all(slot in workflow.bindings.slots for workflow in workflows)


def _ignores_strength(inventory: Inventory, mode: Mode) -> bool:
    """Whether there is a workflow of that mode that takes no strength."""
    workflow = inventory.workflows.get(mode)
    return workflow is not None and Slot.STRENGTH not in workflow.bindings.slots


def _max_controls(workflows: tuple[Workflow, ...]) -> int:
    chains = [workflow.bindings.controls for workflow in workflows]
    return min(0 if chain is None else chain.max_count for chain in chains)
