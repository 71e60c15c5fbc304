"""ComfyUI workflows for services that run one graph a job: configured, claimed, and filled for a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from atelier_engines.capabilities import (
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    Model,
    NumberRange,
)
from atelier_engines.config import Section
from atelier_engines.task import ControlType, ImageTask, Lora
from atelier_engines.vendors.pictures import png_from_pixels
from atelier_engines.workflows import (
    ControlFile,
    Files,
    Mode,
    Workflow,
    builtin,
    customised,
    features,
    filled,
    from_files,
    mode_of,
    most_loras,
    schedulers,
)
from atelier_engines.workflows.bindings import Slot

_LONGEST_PROMPT = 8000
_MOST_CONTROLS = 4
_DECIDED_BY_MODE = frozenset({ImageFeature.IMAGE_TO_IMAGE, ImageFeature.INPAINTING})


class WorkflowFiles(Section):
    """A workflow of one's own."""

    graph: Path = Field(description="File that ComfyUI exported in API format.")
    bindings: Path = Field(description="File that says where a task's values go.")


class GraphConfig(Section):
    """What runs on a ComfyUI behind a service."""

    family: Literal["sdxl", "flux"] = Field(
        default="sdxl", description="Whose workflows, grid of sizes, steps and guidance to use."
    )
    workflows: dict[Mode, WorkflowFiles] = Field(
        default_factory=dict,
        description="Workflows of one's own, by txt2img, img2img and inpaint; with any of them, "
        "what has none is not offered.",
    )
    customise: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Changes to every workflow: nodes by id or title, merged recursively; null removes.",
    )
    checkpoint: str = Field(
        default="", description="File of the weights; the one that the workflows name when empty."
    )
    loras: dict[str, str] = Field(
        default_factory=dict, description="Files of LoRAs by the names to ask for them by."
    )
    controlnets: dict[ControlType, str] = Field(
        default_factory=dict, description="ControlNet files by canny, depth, pose and segmentation."
    )
    max_pixels: int = Field(
        default=2048 * 2048, ge=1024 * 1024, description="Most pixels in a picture."
    )
    max_steps: int = Field(default=100, ge=30, le=1000, description="Most steps.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.workflows and Mode.TXT2IMG not in self.workflows:
            raise ValueError(
                "workflows needs txt2img, the one that every task without a picture uses"
            )
        Graphs.of(self)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """What the models of one architecture have in common."""

    grid: int
    """Width and height are multiples of this, in pixels."""
    guidance: NumberRange
    """The default is the shipped workflows' own."""
    steps: int
    """The default, the shipped workflows' own."""


_FAMILIES: Mapping[str, _Family] = {
    "sdxl": _Family(grid=8, guidance=NumberRange(min=1.0, max=30.0, default=6.0), steps=25),
    "flux": _Family(grid=16, guidance=NumberRange(min=0.0, max=30.0, default=3.5), steps=20),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one task needs to run; one graph a picture."""

    workflow: Workflow
    """For the task's mode."""
    task: ImageTask
    """Its LoRAs named by their files."""
    files: Files
    """Names of what the graph loads."""
    pictures: Mapping[str, bytes]
    """PNG files by the names under which the graph's nodes load them."""
    prefix: str
    """Begins the names of all files of this task."""

    def graph(self, seed: int) -> dict[str, JsonValue]:
        """In API format, for the picture of that seed.

        Raises:
            UnsupportedError: the workflow has no place for what the task needs.
            InvalidTaskError: more LoRAs or controls than the workflow takes.
        """
        return filled(self.workflow, self.task, seed=seed, files=self.files, prefix=self.prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graphs:
    """The workflows of one engine."""

    config: GraphConfig
    """Where they come from."""
    workflows: Mapping[Mode, Workflow]
    """As configured, changes made."""

    @classmethod
    def of(cls, config: GraphConfig) -> Graphs:
        """Those that are configured; reads files.

        Raises:
            WorkflowError: one makes no sense, or a change to it.
        """
        if config.workflows:
            found = {mode: from_files(w.graph, w.bindings) for mode, w in config.workflows.items()}
        else:
            found = {mode: builtin(f"{config.family}_{mode.value}") for mode in Mode}
        changed = {mode: customised(one, config.customise) for mode, one in found.items()}
        return cls(config=config, workflows=changed)

    def capabilities(self, *, max_images: int) -> ImageCapabilities:
        """What the workflows can do: all of them, where the mode does not decide it."""
        family, config, has = _FAMILIES[self.config.family], self.config, self._features()
        side = IntegerRange(min=64, max=4096, default=1024, multiple_of=family.grid)
        steps = IntegerRange(min=1, max=config.max_steps, default=family.steps)
        controlled = ImageFeature.CONTROLNET in has
        return ImageCapabilities(
            width=side,
            height=side,
            max_pixels=config.max_pixels,
            features=has,
            steps=steps if self._everywhere(Slot.STEPS) else None,
            guidance=family.guidance if self._everywhere(Slot.GUIDANCE) else None,
            max_images=max_images,
            max_prompt_length=_LONGEST_PROMPT,
            schedulers=self._schedulers() if ImageFeature.SCHEDULER in has else (),
            control_types=tuple(config.controlnets) if controlled else (),
            max_controls=_MOST_CONTROLS if controlled else 0,
            models=(Model(name=config.checkpoint or config.family, family=config.family),),
            loras=tuple(config.loras) if ImageFeature.LORA in has else (),
            max_loras=self._most_loras() if ImageFeature.LORA in has else 0,
        )

    def order(self, task: ImageTask, *, prefix: str) -> Order:
        """What the task needs; `prefix` tells its files from those of others. Blocks to encode pictures."""
        sent = {"init": task.init_image, "mask": task.mask}
        sent |= {f"control_{number}": one.image for number, one in enumerate(task.controls)}
        pictures = {
            f"{prefix}_{name}.png": png_from_pixels(pixels)
            for name, pixels in sent.items()
            if pixels is not None
        }
        controls = tuple(
            ControlFile(
                image=f"{prefix}_control_{number}.png", model=self.config.controlnets[one.type]
            )
            for number, one in enumerate(task.controls)
        )
        return Order(
            workflow=self.workflows[mode_of(task)],
            task=replace(task, loras=self._files_of(task.loras)),
            files=Files(
                model=self.config.checkpoint,
                init_image=f"{prefix}_init.png",
                mask=f"{prefix}_mask.png",
                controls=controls,
            ),
            pictures=pictures,
            prefix=prefix,
        )

    def _files_of(self, loras: tuple[Lora, ...]) -> tuple[Lora, ...]:
        return tuple(replace(lora, name=self.config.loras[lora.name]) for lora in loras)

    def _features(self) -> frozenset[ImageFeature]:
        has = frozenset.intersection(*map(features, self.workflows.values())) - _DECIDED_BY_MODE
        claims = {
            ImageFeature.IMAGE_TO_IMAGE: Mode.IMG2IMG in self.workflows,
            ImageFeature.INPAINTING: Mode.INPAINT in self.workflows,
        }
        lacks = {
            ImageFeature.CONTROLNET: not self.config.controlnets,
            ImageFeature.LORA: not self.config.loras,
            ImageFeature.SCHEDULER: len(self._schedulers()) <= 1,
        }
        has |= {feature for feature, claimed in claims.items() if claimed}
        return has - {feature for feature, lacking in lacks.items() if lacking}

    def _schedulers(self) -> tuple[str, ...]:
        offers = [schedulers(workflow) for workflow in self.workflows.values()]
        return tuple(name for name in offers[0] if all(name in offer for offer in offers))

    def _most_loras(self) -> int:
        return min(map(most_loras, self.workflows.values()))

    def _everywhere(self, slot: Slot) -> bool:
        return all(slot in workflow.bindings.slots for workflow in self.workflows.values())
