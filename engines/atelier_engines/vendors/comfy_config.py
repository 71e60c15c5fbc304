"""Settings of ComfyUI workflows, for every engine that runs them, and the workflows that they select."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, JsonValue, model_validator

from atelier_engines.config import Section
from atelier_engines.task import ControlType
from atelier_engines.workflows import (
    Mode,
    Workflow,
    apply_overrides,
    build_overrides_schema,
    find_fixed_model,
    list_builtins,
    load_builtin,
    load_files,
)


class WorkflowFiles(Section):
    """Files of a custom workflow."""

    graph: Path = Field(description="File that ComfyUI exported in API format.")
    bindings: Path = Field(description="File that says which inputs take a task's values.")


class WorkflowConfig(Section):
    """Which workflows to run, and the limits of their tasks."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"customise": "overrides"}

    family: Literal["sdxl", "flux"] = Field(
        default="sdxl",
        description="Model family: decides the built-in workflows, the size grid and the default "
        "steps and guidance.",
    )
    workflows: dict[Mode, WorkflowFiles] = Field(
        default_factory=dict,
        description="Custom workflows by txt2img, img2img and inpaint. If any is given, modes without "
        "one are not supported.",
    )
    template: Literal["flux-v4"] | None = Field(
        default=None,
        description="Another built-in workflow than those of the family. flux-v4, for flux and txt2img alone: "
        "fp8 weights, a stack of up to 10 LoRAs (Easy-Use), TeaCache, and model sampling by size; the server needs "
        "these custom nodes.",
    )
    overrides: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Changes to every workflow: nodes by id or title, merged recursively; null removes a key.",
    )
    request_overrides: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Inputs that a task may change by its option `overrides`: their names, by id or title of the node.",
    )
    controlnets: dict[ControlType, str] = Field(
        default_factory=dict, description="ControlNet files by canny, depth, pose and segmentation."
    )
    max_pixels: int = Field(
        default=2048 * 2048, ge=64 * 64, description="Maximum pixels of an image."
    )
    max_steps: int = Field(default=100, ge=1, le=1000, description="Maximum denoising steps.")

    @model_validator(mode="after")
    def _require_txt2img(self) -> Self:
        if self.workflows and Mode.TXT2IMG not in self.workflows:
            raise ValueError("workflows needs txt2img, which every task without an init image uses")
        if self.template is not None and (self.workflows or self.family != "flux"):
            raise ValueError(f"template: {self.template} is for family: flux, without workflows")
        return self


class WorkflowSetConfig(WorkflowConfig):
    """Workflows for a ComfyUI behind a service, which cannot be asked which files it has."""

    checkpoint: str = Field(
        default="",
        description="Name of the weights file; empty for the one that the workflows name.",
    )
    loras: dict[str, str] = Field(
        default_factory=dict, description="LoRA files by the names that callers use for them."
    )

    @model_validator(mode="after")
    def _require_valid_workflows(self) -> Self:
        fixed = find_fixed_model(load_workflows(self).values())
        if self.checkpoint and fixed is not None:
            raise ValueError(
                f"checkpoint: the workflow {fixed.name} has no slot for model; give it one, or leave checkpoint out"
            )
        return self


def load_workflows(config: WorkflowConfig) -> dict[Mode, Workflow]:
    """Load the configured workflows, overrides applied; blocks.

    Raises:
        WorkflowError: a workflow, its bindings or an override is not valid.
    """
    if config.workflows:
        loaded = {mode: load_files(w.graph, w.bindings) for mode, w in config.workflows.items()}
    else:
        names = {mode: f"{config.template or config.family}_{mode.value}" for mode in Mode}
        known = list_builtins()
        loaded = {mode: load_builtin(name) for mode, name in names.items() if name in known}
    changed = {mode: apply_overrides(one, config.overrides) for mode, one in loaded.items()}
    build_overrides_schema(changed.values(), config.request_overrides)
    return changed
