"""The steps of a workflow's sampler nodes, found before it runs, so that progress counts all of its passes.

Source: ComfyUI 0.33.0, nodes.py (`KSampler`, `KSamplerAdvanced`), comfy_extras/nodes_custom_sampler.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from atelier_engines.vendors.comfyui.node_classes import NodeClass, ObjectInfo
from atelier_engines.vendors.comfyui.reachable import sources_by_node, upstream
from atelier_engines.workflows import Workflow
from atelier_engines.workflows.bindings import Slot
from atelier_engines.workflows.graph import Node

SamplerSteps = Mapping[str, int]
"""Steps by the id of each sampler node that a server runs."""

_DRIVERS = frozenset({"MODEL", "GUIDER", "LATENT"})
_RESULTS = frozenset({"LATENT", "IMAGE"})


def count_sampler_steps(workflow: Workflow, info: ObjectInfo, steps: int | None) -> SamplerSteps:
    """Steps of each sampler node of the workflow for a task with that many; empty if it has no sampler node.

    A sampler takes a model, a guider or latents with a number of steps or with sigmas, and gives latents or an image.
    The steps behind its sigmas are those of the node that makes them; where they are unknown, those of the task.
    """
    bound = {
        (place.find(workflow.graph), place.input)
        for place in workflow.bindings.slots.get(Slot.STEPS, ())
    }
    counter = _Counter(workflow, bound, steps)
    run = upstream(workflow.graph, workflow.outputs)
    return {
        key: counter.count(key)
        for key, node in workflow.graph.items()
        if key in run and _is_sampler(info.root.get(node.class_type))
    }


def _is_sampler(described: NodeClass | None) -> bool:
    if described is None or not _RESULTS & {*described.output_types}:
        return False
    names = [*described.input.required, *described.input.optional]
    types = {name: spec.type for name in names if (spec := described.spec(name)) is not None}
    return bool(_DRIVERS & {*types.values()}) and ("steps" in types or "SIGMAS" in types.values())


class _Counter:
    def __init__(self, workflow: Workflow, bound: set[tuple[str, str]], steps: int | None) -> None:
        self._graph = workflow.graph
        self._sources = sources_by_node(workflow.graph)
        self._bound = bound
        self._steps = steps

    def count(self, sampler: str) -> int:
        """Steps of a sampler node; at least 1."""
        own = self._own_steps(sampler)
        if own is None:
            found = [self._own_steps(source) for source in self._near_sources(sampler)]
            own = next((steps for steps in found if steps is not None), self._steps)
        return max(1, _cut(self._graph[sampler], own or 1))

    def _own_steps(self, node: str) -> int | None:
        if (node, "steps") in self._bound and self._steps is not None:
            return self._steps
        value = self._graph[node].inputs.get("steps")
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def _near_sources(self, node: str) -> list[str]:
        """What makes the node's sigmas: the nodes that its input `sigmas` leads to, the nearest first."""
        link = self._graph[node].inputs.get("sigmas")
        near = [link[0]] if isinstance(link, list) and link and isinstance(link[0], str) else []
        for source in near:
            near.extend(one for one in self._sources.get(source, []) if one not in near)
        return [source for source in near if source in self._graph]


def _cut(node: Node, steps: int) -> int:
    """The steps between the first and the last that the node names, if it names them."""
    first, last = node.inputs.get("start_at_step"), node.inputs.get("end_at_step")
    begin = first if isinstance(first, int) else 0
    end = min(last, steps) if isinstance(last, int) else steps
    return end - begin
