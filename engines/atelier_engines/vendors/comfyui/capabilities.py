"""What a comfyui engine says it can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atelier_engines.capabilities import (
    CancelSupport,
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    Model,
    NumberRange,
    Reproducibility,
)
from atelier_engines.vendors.comfyui.config import ComfyuiConfig
from atelier_engines.vendors.comfyui.inventory import Inventory
from atelier_engines.vendors.options import NoOptions, schema_of
from atelier_engines.workflows import Workflow, most_loras
from atelier_engines.workflows.bindings import Slot

_LONGEST_SIDE = 4096
_LONGEST_PROMPT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """What a family of models is used with, as its makers suggest."""

    steps: int
    guidance: float
    grid: int
    """Pixels that sides are multiples of."""
    side: int = 1024


_FAMILIES: Mapping[str, _Family] = {
    "sdxl": _Family(steps=25, guidance=6.0, grid=8),
    "flux": _Family(steps=20, guidance=3.5, grid=16),
}


def unknown(config: ComfyuiConfig) -> Capabilities:
    """Before any server has been asked: the least."""
    return _capabilities(config, _image(config, None), version="")


def abilities(config: ComfyuiConfig, inventory: Inventory, *, version: str) -> Capabilities:
    """With what the servers have."""
    return _capabilities(config, _image(config, inventory), version=version)


def _capabilities(config: ComfyuiConfig, image: ImageCapabilities, *, version: str) -> Capabilities:
    return Capabilities(
        description=f"Workflows for {config.family} on ComfyUI",
        image=image,
        concurrency=config.concurrency,
        cancel=CancelSupport.REMOTE,
        reproducibility=Reproducibility.BEST_EFFORT,
        price=None if config.price is None else config.price.price(),
        options_schema=schema_of(NoOptions),
        versions={"comfyui": version} if version else {},
    )


def _image(config: ComfyuiConfig, inventory: Inventory | None) -> ImageCapabilities:
    family = _FAMILIES[config.family]
    longest = min(_LONGEST_SIDE, config.max_pixels // 64 // family.grid * family.grid)
    shortest_long = int(config.max_pixels**0.5) // family.grid * family.grid
    side = IntegerRange(
        min=64, max=longest, default=min(family.side, shortest_long), multiple_of=family.grid
    )
    if inventory is None:
        return ImageCapabilities(
            width=side, height=side, max_pixels=config.max_pixels, max_images=config.max_images
        )
    workflows = tuple(inventory.workflows.values())
    previews = frozenset() if config.previews == "none" else {ImageFeature.PREVIEW}
    controlled = ImageFeature.CONTROLNET in inventory.features
    with_loras = ImageFeature.LORA in inventory.features
    return ImageCapabilities(
        width=side,
        height=side,
        max_pixels=config.max_pixels,
        features=inventory.features | previews,
        steps=_steps(config, family) if _all_have(workflows, Slot.STEPS) else None,
        guidance=_guidance(family) if _all_have(workflows, Slot.GUIDANCE) else None,
        max_images=config.max_images,
        max_prompt_length=_LONGEST_PROMPT,
        schedulers=inventory.schedulers,
        control_types=tuple(config.controlnets) if controlled else (),
        max_controls=_most_controls(workflows) if controlled else 0,
        models=tuple(Model(name=name, family=config.family) for name in inventory.models),
        loras=inventory.loras if with_loras else (),
        max_loras=min(map(most_loras, workflows)) if with_loras else 0,
    )


def _steps(config: ComfyuiConfig, family: _Family) -> IntegerRange:
    return IntegerRange(min=1, max=config.max_steps, default=min(family.steps, config.max_steps))


def _guidance(family: _Family) -> NumberRange:
    return NumberRange(min=0.0, max=30.0, default=family.guidance)


def _all_have(workflows: tuple[Workflow, ...], slot: Slot) -> bool:
    return all(slot in workflow.bindings.slots for workflow in workflows)


def _most_controls(workflows: tuple[Workflow, ...]) -> int:
    chains = [workflow.bindings.controls for workflow in workflows]
    return min(0 if chain is None else chain.most for chain in chains)
