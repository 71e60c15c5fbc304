"""Reads what ComfyUI servers have for a set of workflows: nodes, weights and samplers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from atelier_engines.errors import EngineUnavailableError, ModelMissingError
from atelier_engines.task import ControlType
from atelier_engines.vendors.comfy_capabilities import Inventory, names_in_all
from atelier_engines.vendors.comfyui.config import ComfyuiConfig
from atelier_engines.vendors.comfyui.node_classes import ObjectInfo
from atelier_engines.vendors.comfyui.workflow_check import require_valid
from atelier_engines.workflows import Mode, Workflow, find_fixed_model
from atelier_engines.workflows.bindings import LoraStackNode, NodeChain, Slot


def read_inventory(
    config: ComfyuiConfig, workflows: Mapping[Mode, Workflow], infos: Sequence[ObjectInfo]
) -> Inventory:
    """Return what all the servers that sent `infos` have in common.

    Raises:
        EngineUnavailableError: a server lacks a node of the text-to-image workflow or of a custom one, or would reject
            a workflow.
        ModelMissingError: a server lacks a model or a ControlNet that the configuration names, or weights that a
            workflow names.
    """
    nodes = _NodeClasses(infos)
    usable = {mode: one for mode, one in workflows.items() if not nodes.missing_from(one)}
    needed = workflows if config.workflows else (Mode.TXT2IMG,)
    for workflow in (workflows[mode] for mode in needed if mode not in usable):
        raise EngineUnavailableError(
            f"comfyui lacks the nodes {', '.join(nodes.missing_from(workflow))} "
            f"of the workflow {workflow.name}"
        )
    if config.check_workflows:
        for workflow in usable.values():
            for info in infos:
                require_valid(workflow, info)
    first = workflows[Mode.TXT2IMG]
    return Inventory(
        workflows=usable,
        models=_list_models(config, nodes, usable),
        loras=_list_loras(nodes, first),
        control_types=_list_control_types(config, nodes, usable.values()),
        schedulers=names_in_all(_list_schedulers(nodes, one) for one in usable.values()),
    )


class _NodeClasses:
    """The node classes that all servers have."""

    def __init__(self, infos: Sequence[ObjectInfo]) -> None:
        self._infos = infos

    def have(self, class_type: str) -> bool:
        return all(class_type in info.root for info in self._infos)

    def choices(self, class_type: str, name: str) -> tuple[str, ...]:
        """Choices of an input that every server offers, in the order of the first."""
        return names_in_all(
            info.root[class_type].choices(name) if class_type in info.root else ()
            for info in self._infos
        )

    def missing_from(self, workflow: Workflow) -> tuple[str, ...]:
        classes = {node.class_type: None for node in workflow.graph.values()}
        return tuple(name for name in classes if not self.have(name))

    def slot_choices(self, workflow: Workflow, slot: Slot) -> tuple[str, ...]:
        for ref in workflow.bindings.slots.get(slot, ()):
            node = workflow.graph[ref.find(workflow.graph)]
            return self.choices(node.class_type, ref.input)
        return ()

    def chain_choices(self, chain: NodeChain, slot: str) -> tuple[str, ...]:
        """Choices of a chain's slot; none if a node of the chain is missing."""
        if not all(self.have(node.class_type) for node in chain.nodes.values()):
            return ()
        for key, name in chain.slots.get(slot, ()):
            return self.choices(chain.nodes[key].class_type, name)
        return ()


def _list_models(
    config: ComfyuiConfig, nodes: _NodeClasses, workflows: Mapping[Mode, Workflow]
) -> tuple[str, ...]:
    """Models that can be chosen in every mode; none where a workflow loads its own."""
    workflow = workflows[Mode.TXT2IMG]
    fixed = find_fixed_model(workflows.values())
    if fixed is not None and config.models:
        raise EngineUnavailableError(
            f"the workflow {fixed.name} has no slot for model, so the setting models would have no effect on it: "
            "give it one, or leave models out"
        )
    known = () if fixed else nodes.slot_choices(workflow, Slot.MODEL)
    for name in config.models:
        if name not in known:
            raise ModelMissingError(
                f"not every ComfyUI server has the model {name!r}; "
                f"available: {', '.join(known) or 'none'}"
            )
    if fixed is None and not known:
        raise ModelMissingError(
            f"comfyui has no model for the workflow {workflow.name}; install one"
        )
    return config.models or known


def _list_loras(nodes: _NodeClasses, workflow: Workflow) -> tuple[str, ...]:
    match workflow.bindings.loras:
        case NodeChain() as chain:
            return nodes.chain_choices(chain, "name")
        case LoraStackNode() as stack:
            node = workflow.graph[stack.node.find(workflow.graph)]
            names = nodes.choices(node.class_type, stack.name.format(n=1))
            return tuple(name for name in names if name != stack.empty)
        case None:
            return ()


def _list_control_types(
    config: ComfyuiConfig, nodes: _NodeClasses, workflows: Iterable[Workflow]
) -> tuple[ControlType, ...]:
    for workflow in workflows:
        chain = workflow.bindings.controls
        known = () if chain is None else nodes.chain_choices(chain, "model")
        for kind, name in config.controlnets.items():
            if chain is not None and name not in known:
                raise ModelMissingError(
                    f"comfyui has no ControlNet {name!r} for {kind.value}; "
                    f"available: {', '.join(known) or 'none'}"
                )
    return tuple(config.controlnets)


def _list_schedulers(nodes: _NodeClasses, workflow: Workflow) -> tuple[str, ...]:
    """Scheduler names that the workflow knows and every server has."""
    samplers = nodes.slot_choices(workflow, Slot.SAMPLER)
    schedules = nodes.slot_choices(workflow, Slot.SCHEDULE)
    return tuple(
        name
        for name, (sampler, schedule) in workflow.bindings.samplers.items()
        if sampler in samplers and schedule in schedules
    )
