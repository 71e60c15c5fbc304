"""What servers have for a set of workflows: nodes, weights and samplers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from atelier_engines.capabilities import ImageFeature
from atelier_engines.errors import EngineUnavailableError, ModelMissingError
from atelier_engines.vendors.comfyui.config import ComfyuiConfig
from atelier_engines.vendors.comfyui.wire import ObjectInfo
from atelier_engines.workflows import Mode, Workflow, features
from atelier_engines.workflows.bindings import Chain, Slot, Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What can be offered on every one of the servers."""

    workflows: Mapping[Mode, Workflow]
    """Those that the servers have all nodes for."""
    features: frozenset[ImageFeature]
    """What these have places for, and the servers weights."""
    models: tuple[str, ...]
    """Files, the default first."""
    loras: tuple[str, ...]
    """Files."""
    schedulers: tuple[str, ...]
    """By the names that callers know, the default first."""


def take_stock(
    config: ComfyuiConfig, workflows: Mapping[Mode, Workflow], infos: Sequence[ObjectInfo]
) -> Inventory:
    """What all the servers that sent `infos` have in common.

    Raises:
        EngineUnavailableError: a server lacks a node without which nothing can be made.
        ModelMissingError: a server lacks a model or a ControlNet that the configuration names.
    """
    stock = _Stock(infos)
    usable = {mode: workflow for mode, workflow in workflows.items() if not stock.lacking(workflow)}
    first = workflows[Mode.TXT2IMG]
    if Mode.TXT2IMG not in usable:
        raise EngineUnavailableError(
            f"comfyui lacks the nodes {', '.join(stock.lacking(first))} of the workflow {first.name}"
        )
    models = _models(config, stock, first)
    loras = _loras(stock, first)
    can = _common(usable.values())
    if not loras:
        can -= {ImageFeature.LORA}
    if not _has_controls(config, stock, usable.values()):
        can -= {ImageFeature.CONTROLNET}
    schedulers = _schedulers(stock, usable.values())
    if len(schedulers) < 2:  # noqa: PLR2004 (one is no choice)
        can -= {ImageFeature.SCHEDULER}
    return Inventory(
        workflows=usable, features=can, models=models, loras=loras, schedulers=schedulers
    )


class _Stock:
    """Answers for all servers at once."""

    def __init__(self, infos: Sequence[ObjectInfo]) -> None:
        self._infos = infos

    def has(self, class_type: str) -> bool:
        return all(class_type in info.root for info in self._infos)

    def choices(self, class_type: str, name: str) -> tuple[str, ...]:
        """What every server offers, in the order of the first."""
        lists = [
            info.root[class_type].choices(name) if class_type in info.root else ()
            for info in self._infos
        ]
        return tuple(name for name in lists[0] if all(name in names for names in lists))

    def lacking(self, workflow: Workflow) -> tuple[str, ...]:
        classes = {node.class_type: None for node in workflow.graph.values()}
        return tuple(name for name in classes if not self.has(name))

    def at(self, workflow: Workflow, slot: Slot) -> tuple[str, ...]:
        """Choices at the place of a slot."""
        for place in workflow.bindings.slots.get(slot, ()):
            node = workflow.graph[place.find(workflow.graph)]
            return self.choices(node.class_type, place.input)
        return ()

    def in_chain(self, chain: Chain, slot: str) -> tuple[str, ...]:
        """Choices at the place of a chain's slot; none where a node of the chain is missing."""
        if not all(self.has(node.class_type) for node in chain.nodes.values()):
            return ()
        for key, name in chain.slots.get(slot, ()):
            return self.choices(chain.nodes[key].class_type, name)
        return ()


def _models(config: ComfyuiConfig, stock: _Stock, workflow: Workflow) -> tuple[str, ...]:
    known = stock.at(workflow, Slot.MODEL)
    for name in config.models:
        if name not in known:
            offer = ", ".join(known) or "none"
            raise ModelMissingError(
                f"comfyui has no model {name!r} on every server; it has {offer}"
            )
    if Slot.MODEL in workflow.bindings.slots and not known:
        raise ModelMissingError(
            f"comfyui has no model for the workflow {workflow.name}; install one"
        )
    return config.models or known


def _loras(stock: _Stock, workflow: Workflow) -> tuple[str, ...]:
    match workflow.bindings.loras:
        case Chain() as chain:
            return stock.in_chain(chain, "name")
        case Stack() as stack:
            node = workflow.graph[stack.node.find(workflow.graph)]
            names = stock.choices(node.class_type, stack.name.format(n=1))
            return tuple(name for name in names if name != stack.empty)
        case None:
            return ()


def _has_controls(config: ComfyuiConfig, stock: _Stock, workflows: Iterable[Workflow]) -> bool:
    for workflow in workflows:
        chain = workflow.bindings.controls
        known = () if chain is None else stock.in_chain(chain, "model")
        for kind, name in config.controlnets.items():
            if chain is not None and name not in known:
                offer = ", ".join(known) or "none"
                msg = f"comfyui has no ControlNet {name!r} for {kind.value}; it has {offer}"
                raise ModelMissingError(msg)
    return bool(config.controlnets)


def _schedulers(stock: _Stock, workflows: Iterable[Workflow]) -> tuple[str, ...]:
    """Those that every workflow knows and every server has."""
    lists = []
    for workflow in workflows:
        samplers = stock.at(workflow, Slot.SAMPLER)
        schedules = stock.at(workflow, Slot.SCHEDULE)
        lists.append(
            [
                name
                for name, (sampler, schedule) in workflow.bindings.samplers.items()
                if sampler in samplers and schedule in schedules
            ]
        )
    return tuple(name for name in lists[0] if all(name in names for names in lists))


def _common(workflows: Iterable[Workflow]) -> frozenset[ImageFeature]:
    """What every workflow can, and what one of them is there for."""
    modes = {ImageFeature.IMAGE_TO_IMAGE, ImageFeature.INPAINTING}
    each = [features(workflow) for workflow in workflows]
    return frozenset.intersection(*(can - modes for can in each)) | (frozenset.union(*each) & modes)
