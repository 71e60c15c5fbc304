"""ComfyUI workflows for services that run one graph per job: their capabilities, and graphs for a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import JsonValue

from atelier_engines.capabilities import ImageCapabilities
from atelier_engines.task import ImageTask, Lora
from atelier_engines.vendors.comfy_capabilities import Inventory, build_capabilities, names_in_all
from atelier_engines.vendors.comfy_config import WorkflowSetConfig, load_workflows
from atelier_engines.vendors.images import encode_png
from atelier_engines.workflows import (
    ControlFile,
    Mode,
    TaskFiles,
    Workflow,
    apply_request_overrides,
    fill,
    list_schedulers,
    required_mode,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedTask:
    """Everything that one task's jobs need; one graph per image."""

    workflow: Workflow
    """Workflow for the task's mode."""
    task: ImageTask
    """Task whose LoRAs are named by their files."""
    files: TaskFiles
    """Names of the files that the graphs load."""
    images: Mapping[str, bytes]
    """PNG files by the names under which the graphs load them."""
    prefix: str
    """Prefix of the names of all files of this task."""

    def build_graph(self, seed: int) -> dict[str, JsonValue]:
        """Build the graph, in API format, for the image of that seed.

        Raises:
            UnsupportedError: the workflow has no slot for a value of the task.
            InvalidTaskError: more LoRAs or controls than the workflow takes.
        """
        return fill(self.workflow, self.task, seed=seed, files=self.files, prefix=self.prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowSet:
    """The workflows of one engine, by mode."""

    config: WorkflowSetConfig
    """Configuration that selects them."""
    workflows: Mapping[Mode, Workflow]
    """Workflows with overrides applied."""

    @classmethod
    def load(cls, config: WorkflowSetConfig) -> WorkflowSet:
        """Load the configured workflows; blocks.

        Raises:
            WorkflowError: a workflow, its bindings or an override is not valid.
        """
        return cls(config=config, workflows=load_workflows(config))

    def capabilities(self, *, max_images: int) -> ImageCapabilities:
        """Capabilities of all workflows, with the configured files."""
        inventory = Inventory(
            workflows=self.workflows,
            models=(self.config.checkpoint or self.config.family,),
            loras=tuple(self.config.loras),
            control_types=tuple(self.config.controlnets),
            schedulers=names_in_all(map(list_schedulers, self.workflows.values())),
        )
        return build_capabilities(self.config, inventory, max_images=max_images)

    def prepare(self, task: ImageTask, *, prefix: str) -> PreparedTask:
        """Encode the task's images, under names that begin with `prefix`, and select its workflow; blocks.

        Raises:
            InvalidTaskError: the task changes what it may not change in the workflow.
        """
        sources = {"init": task.init_image, "mask": task.mask}
        sources |= {f"control_{number}": one.image for number, one in enumerate(task.controls)}
        images = {
            f"{prefix}_{name}.png": encode_png(pixels)
            for name, pixels in sources.items()
            if pixels is not None
        }
        controls = tuple(
            ControlFile(
                image=f"{prefix}_control_{number}.png", model=self.config.controlnets[one.type]
            )
            for number, one in enumerate(task.controls)
        )
        return PreparedTask(
            workflow=self._choose_workflow(task),
            task=replace(task, loras=self._resolve_lora_files(task.loras)),
            files=TaskFiles(
                model=self.config.checkpoint,
                init_image=f"{prefix}_init.png",
                mask=f"{prefix}_mask.png",
                controls=controls,
            ),
            images=images,
            prefix=prefix,
        )

    def _choose_workflow(self, task: ImageTask) -> Workflow:
        """The workflow of the task's mode, with the changes that the task asks for.

        Raises:
            InvalidTaskError: it may not change that.
        """
        workflow = self.workflows[required_mode(task)]
        return apply_request_overrides(workflow, task, self.config.request_overrides)

    def _resolve_lora_files(self, loras: tuple[Lora, ...]) -> tuple[Lora, ...]:
        return tuple(replace(lora, name=self.config.loras[lora.name]) for lora in loras)
