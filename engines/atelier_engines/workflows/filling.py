"""Fills a workflow's inputs with the values of one task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from pydantic import JsonValue

from atelier_engines.errors import InvalidTaskError, UnsupportedError
from atelier_engines.task import ImageTask
from atelier_engines.workflows.bindings import LoraStackNode, NodeChain, Slot
from atelier_engines.workflows.chains import SlotValues, fill_lora_stack, insert_chain
from atelier_engines.workflows.graph import Graph, graph_to_json
from atelier_engines.workflows.workflow import Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlFile:
    """Names of one control's files at the ComfyUI server."""

    image: str
    """Value for the workflow's image loading node: an uploaded file's name, a URL or base64."""
    model: str
    """Name of the ControlNet file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFiles:
    """Names of the task's images and weights at the ComfyUI server."""

    model: str = ""
    """Name of the weights file; empty for the one that the workflow names itself."""
    init_image: str = ""
    """Value for the workflow's image loading node: an uploaded file's name, a URL or base64."""
    mask: str = ""
    """Mask; a value as for `init_image`."""
    controls: tuple[ControlFile, ...] = ()
    """One for each control of the task, in its order."""


def fill(
    workflow: Workflow,
    task: ImageTask,
    *,
    seed: int,
    files: TaskFiles | None = None,
    prefix: str = "atelier",
) -> dict[str, JsonValue]:
    """Return the graph, as JSON, that generates one image of the task.

    Args:
        workflow: is not changed.
        task: its LoRAs are applied in their order with their weights; their names are file names.
            Its seeds are ignored.
        seed: seed of this image.
        files: names of the files that the graph loads; none by default.
        prefix: prefix of the output files' names, unique to the job.

    Raises:
        UnsupportedError: the task needs a slot that the workflow lacks.
        InvalidTaskError: more LoRAs or controls than the workflow takes, or a control has no file.
    """
    files = files or TaskFiles()
    graph = {key: node.model_copy(deep=True) for key, node in workflow.graph.items()}
    for slot, value in _iter_slot_values(workflow, task, seed=seed, files=files):
        places = workflow.bindings.slots.get(slot)
        if places is None:
            raise UnsupportedError(
                slot.value, f"the workflow {workflow.name} has no slot for {slot.value}"
            )
        for place in places:
            graph[place.find(graph)].inputs[place.input] = value
    for place in workflow.bindings.slots.get(Slot.PREFIX, ()):
        graph[place.find(graph)].inputs[place.input] = prefix
    _insert_loras(graph, workflow, task)
    _insert_controls(graph, workflow, task, files)
    return graph_to_json(graph)


def _iter_slot_values(
    workflow: Workflow, task: ImageTask, *, seed: int, files: TaskFiles
) -> Iterator[tuple[Slot, JsonValue]]:
    """Values that the task sets, each of which needs a slot in the workflow."""
    yield Slot.PROMPT, task.prompt
    yield Slot.WIDTH, task.width
    yield Slot.HEIGHT, task.height
    if Slot.SEED in workflow.bindings.slots:
        yield Slot.SEED, seed
    if task.negative_prompt or Slot.NEGATIVE_PROMPT in workflow.bindings.slots:
        yield Slot.NEGATIVE_PROMPT, task.negative_prompt
    if task.steps is not None:
        yield Slot.STEPS, task.steps
    if task.guidance is not None:
        yield Slot.GUIDANCE, task.guidance
    if task.scheduler:
        sampler, schedule = _find_sampler(workflow, task.scheduler)
        yield Slot.SAMPLER, sampler
        yield Slot.SCHEDULE, schedule
    if files.model:
        yield Slot.MODEL, files.model
    if task.init_image is not None:
        yield Slot.INIT_IMAGE, files.init_image
        if (
            Slot.STRENGTH in workflow.bindings.slots
        ):  # else the capabilities say that it has no effect
            yield Slot.STRENGTH, task.strength
    if task.mask is not None:
        yield Slot.MASK, files.mask


def _find_sampler(workflow: Workflow, name: str) -> tuple[str, str]:
    known = workflow.bindings.samplers
    if name not in known:
        raise UnsupportedError("scheduler", f"scheduler must be one of {', '.join(known)}")
    return known[name]


def _insert_loras(graph: Graph, workflow: Workflow, task: ImageTask) -> None:
    loras = workflow.bindings.loras
    if task.loras and loras is None:
        raise UnsupportedError("LORA", f"the workflow {workflow.name} does not support LoRAs")
    if loras is not None and len(task.loras) > loras.max_count:
        raise InvalidTaskError(
            "loras", f"loras must be at most {loras.max_count}, not {len(task.loras)}"
        )
    match loras:
        case NodeChain():
            each: list[SlotValues] = [
                {"name": lora.name, "weight": lora.weight} for lora in task.loras
            ]
            insert_chain(graph, loras, "lora", each)
        case LoraStackNode():
            fill_lora_stack(graph, loras, task.loras)
        case None:
            pass
        case _:
            assert_never(loras)


def _insert_controls(graph: Graph, workflow: Workflow, task: ImageTask, files: TaskFiles) -> None:
    chain = workflow.bindings.controls
    if not task.controls:
        return
    if chain is None:
        raise UnsupportedError(
            "CONTROLNET", f"the workflow {workflow.name} does not support controls"
        )
    if len(task.controls) > chain.max_count:
        message = f"controls must be at most {chain.max_count}, not {len(task.controls)}"
        raise InvalidTaskError("controls", message)
    if len(files.controls) != len(task.controls):
        raise InvalidTaskError("controls", "each control needs an image file and a ControlNet file")
    each: list[SlotValues] = [
        {
            "image": file.image,
            "model": file.model,
            "strength": control.strength,
            "start": control.start,
            "end": control.end,
            "width": task.width,
            "height": task.height,
        }
        for control, file in zip(task.controls, files.controls, strict=True)
    ]
    insert_chain(graph, chain, "control", each)
