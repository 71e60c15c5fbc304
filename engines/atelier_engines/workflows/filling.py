"""Writes one task into a workflow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from pydantic import JsonValue

from atelier_engines.errors import InvalidTaskError, UnsupportedError
from atelier_engines.task import ImageTask
from atelier_engines.workflows.bindings import Chain, Slot, Stack
from atelier_engines.workflows.chains import Values, fill_stack, put_chain
from atelier_engines.workflows.graph import Graph, graph_to_json
from atelier_engines.workflows.workflow import Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlFile:
    """What one control of the task is called where the workflow runs."""

    image: str
    """As the workflow's node for pictures takes it: an uploaded file's name, a URL, base64."""
    model: str
    """The ControlNet's file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What the task's pictures and weights are called where the workflow runs."""

    model: str = ""
    """Weights; empty for those that the workflow names itself."""
    init_image: str = ""
    """As the workflow's node for pictures takes it: an uploaded file's name, a URL, base64."""
    mask: str = ""
    """As `init_image`."""
    controls: tuple[ControlFile, ...] = ()
    """One for each control of the task, in its order."""


def filled(
    workflow: Workflow,
    task: ImageTask,
    *,
    seed: int,
    files: Files | None = None,
    prefix: str = "atelier",
) -> dict[str, JsonValue]:
    """The graph, as JSON, that makes one picture of the task.

    Args:
        workflow: stays as it is.
        task: its LoRAs are applied in their order with their weights, under their names; its seeds
            are not looked at.
        seed: of this picture.
        files: names of everything that lies elsewhere; none by default.
        prefix: begins the names of the result's files; makes them tell one job from another.

    Raises:
        UnsupportedError: the task needs a slot that the workflow does not have.
        InvalidTaskError: more LoRAs or controls than the workflow takes, or a control has no file.
    """
    files = files or Files()
    graph = {key: node.model_copy(deep=True) for key, node in workflow.graph.items()}
    for slot, value in _values(workflow, task, seed=seed, files=files):
        places = workflow.bindings.slots.get(slot)
        if places is None:
            raise UnsupportedError(
                slot.value, f"the workflow {workflow.name} has no slot for {slot.value}"
            )
        for place in places:
            graph[place.find(graph)].inputs[place.input] = value
    for place in workflow.bindings.slots.get(Slot.PREFIX, ()):
        graph[place.find(graph)].inputs[place.input] = prefix
    _put_loras(graph, workflow, task)
    _put_controls(graph, workflow, task, files)
    return graph_to_json(graph)


def _values(
    workflow: Workflow, task: ImageTask, *, seed: int, files: Files
) -> Iterator[tuple[Slot, JsonValue]]:
    """What the task says, and so must find its place."""
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
        sampler, schedule = _sampler(workflow, task.scheduler)
        yield Slot.SAMPLER, sampler
        yield Slot.SCHEDULE, schedule
    if files.model:
        yield Slot.MODEL, files.model
    if task.init_image is not None:
        yield Slot.INIT_IMAGE, files.init_image
        yield Slot.STRENGTH, task.strength
    if task.mask is not None:
        yield Slot.MASK, files.mask


def _sampler(workflow: Workflow, name: str) -> tuple[str, str]:
    known = workflow.bindings.samplers
    if name not in known:
        raise UnsupportedError("scheduler", f"scheduler must be one of {', '.join(known)}")
    return known[name]


def _put_loras(graph: Graph, workflow: Workflow, task: ImageTask) -> None:
    loras = workflow.bindings.loras
    if task.loras and loras is None:
        raise UnsupportedError("LORA", f"the workflow {workflow.name} has no place for LoRAs")
    if loras is not None and len(task.loras) > loras.most:
        raise InvalidTaskError(
            "loras", f"loras must be at most {loras.most}, not {len(task.loras)}"
        )
    match loras:
        case Chain():
            each: list[Values] = [{"name": lora.name, "weight": lora.weight} for lora in task.loras]
            put_chain(graph, loras, "lora", each)
        case Stack():
            fill_stack(graph, loras, task.loras)
        case None:
            pass
        case _:
            assert_never(loras)


def _put_controls(graph: Graph, workflow: Workflow, task: ImageTask, files: Files) -> None:
    chain = workflow.bindings.controls
    if not task.controls:
        return
    if chain is None:
        raise UnsupportedError(
            "CONTROLNET", f"the workflow {workflow.name} has no place for controls"
        )
    if len(task.controls) > chain.most:
        message = f"controls must be at most {chain.most}, not {len(task.controls)}"
        raise InvalidTaskError("controls", message)
    if len(files.controls) != len(task.controls):
        raise InvalidTaskError("controls", "each control needs its picture and its ControlNet")
    each: list[Values] = [
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
    put_chain(graph, chain, "control", each)
