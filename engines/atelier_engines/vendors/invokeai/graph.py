"""From a task to InvokeAI's graph for SDXL: nodes, and edges from field to field.

Source: InvokeAI 6.14.2, app/invocations: sdxl.py, compel.py, model.py, noise.py, denoise_latents.py,
image_to_latents.py, create_denoise_mask.py, controlnet.py, latents_to_image.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from atelier_engines.task import JSON, Control, ImageTask
from atelier_engines.vendors.invokeai.catalogue import Catalogue
from atelier_engines.vendors.invokeai.config import InvokeAiConfig
from atelier_engines.vendors.invokeai.wire import ModelRecord

DENOISE, PICTURE, SEED = "denoise", "picture", ("noise", "seed")
"""The node whose progress counts, the one that makes the result, and where the seed goes."""
STAGES = {"model": "load", "positive": "encode_text", DENOISE: "denoise", PICTURE: "decode"}
"""Stages of the work by the nodes that begin them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Names on the server of the pictures that were sent along."""

    start: str = ""
    """Picture to start from; empty when there is none."""
    mask: str = ""
    """Black is repainted, white is kept; empty when there is none."""
    controls: tuple[str, ...] = ()
    """One for each control of the task."""

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(name for name in (self.start, self.mask, *self.controls) if name)


@dataclass(slots=True)
class _Graph:
    nodes: dict[str, JSON] = field(default_factory=dict)
    edges: list[JSON] = field(default_factory=list)

    def add(self, name: str, kind: str, **fields: JSON) -> str:
        self.nodes[name] = {"id": name, "type": kind, **fields}
        return name

    def join(self, source: str, destination: str, *fields: str) -> None:
        """Lead fields of one node to the fields of the same name of another."""
        for name in fields:
            self.lead(source, name, destination, name)

    def lead(self, source: str, output: str, destination: str, into: str) -> None:
        """Lead one field to a field of another name."""
        self.edges.append(
            {
                "source": {"node_id": source, "field": output},
                "destination": {"node_id": destination, "field": into},
            }
        )


def graph_of(
    task: ImageTask, catalogue: Catalogue, sent: Sent, config: InvokeAiConfig, *, board_id: str
) -> dict[str, JSON]:
    """The graph for one picture of the task, its seed left open. Without a board the result is temporary."""
    graph = _Graph()
    main = catalogue.mains[task.model] if task.model else next(iter(catalogue.mains.values()))
    graph.add("model", "sdxl_model_loader", model=main.model_dump())
    graph.add(
        DENOISE,
        "denoise_latents",
        steps=task.steps,
        cfg_scale=task.guidance,
        scheduler=task.scheduler or config.scheduler,
        denoising_start=round(1.0 - task.strength, 4) if sent.start else 0.0,
        denoising_end=1.0,
    )
    graph.add("noise", "noise", width=task.width, height=task.height, use_cpu=True, use_cache=False)
    graph.join("noise", DENOISE, "noise")
    _add_words(graph, task, _with_loras(graph, task, catalogue))
    _add_start(graph, sent, fp32=config.fp32)
    _add_controls(graph, task, catalogue, sent)
    board: dict[str, JSON] = {"board": {"board_id": board_id}} if board_id else {}
    graph.add(
        PICTURE, "l2i", fp32=config.fp32, is_intermediate=not board_id, use_cache=False, **board
    )
    graph.join(DENOISE, PICTURE, "latents")
    graph.join("model", PICTURE, "vae")
    return {"id": "atelier", "nodes": graph.nodes, "edges": graph.edges}


def _with_loras(graph: _Graph, task: ImageTask, catalogue: Catalogue) -> str:
    """The node at the end of the chain of LoRAs; weights of one named twice add up, since it may stand there once."""
    weights: dict[str, float] = {}
    for lora in task.loras:
        weights[lora.name] = weights.get(lora.name, 0.0) + lora.weight
    last = "model"
    for number, (name, weight) in enumerate(weights.items()):
        record = catalogue.loras[name].model_dump()
        loader = graph.add(f"lora_{number}", "sdxl_lora_loader", lora=record, weight=weight)
        graph.join(last, loader, "unet", "clip", "clip2")
        last = loader
    return last


def _add_words(graph: _Graph, task: ImageTask, model: str) -> None:
    graph.join(model, DENOISE, "unet")
    sizes = {
        "original_width": task.width,
        "original_height": task.height,
        "target_width": task.width,
        "target_height": task.height,
    }
    for name, words in (("positive", task.prompt), ("negative", task.negative_prompt)):
        graph.add(name, "sdxl_compel_prompt", prompt=words, **sizes)
        graph.join(model, name, "clip", "clip2")
        graph.lead(name, "conditioning", DENOISE, f"{name}_conditioning")


def _add_start(graph: _Graph, sent: Sent, *, fp32: bool) -> None:
    if sent.start:
        graph.add("start", "i2l", image={"image_name": sent.start}, fp32=fp32)
        graph.join("model", "start", "vae")
        graph.join("start", DENOISE, "latents")
    if sent.mask:
        start, mask = ({"image_name": name} for name in (sent.start, sent.mask))
        graph.add("mask", "create_denoise_mask", image=start, mask=mask, fp32=fp32)
        graph.join("model", "mask", "vae")
        graph.join("mask", DENOISE, "denoise_mask")


def _add_controls(graph: _Graph, task: ImageTask, catalogue: Catalogue, sent: Sent) -> None:
    if not task.controls:
        return
    graph.add("controls", "collect")
    graph.lead("controls", "collection", DENOISE, "control")
    for number, (control, image) in enumerate(zip(task.controls, sent.controls, strict=True)):
        model = catalogue.controlnets[control.type]
        node = graph.add(f"control_{number}", "controlnet", **_control(control, image, model))
        graph.lead(node, "control", "controls", "item")


def _control(control: Control, image: str, model: ModelRecord) -> dict[str, JSON]:
    return {
        "image": {"image_name": image},
        "control_model": model.model_dump(),
        "control_weight": control.strength,
        "begin_step_percent": control.start,
        "end_step_percent": control.end,
    }
