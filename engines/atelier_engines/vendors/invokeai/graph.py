"""Builds InvokeAI's graph for SDXL from a task: nodes, and edges from field to field.

Source: InvokeAI 6.14.2, app/invocations: sdxl.py, compel.py, model.py, noise.py, denoise_latents.py,
image_to_latents.py, create_denoise_mask.py, controlnet.py, latents_to_image.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from atelier_engines.task import JSON, Control, ImageTask
from atelier_engines.vendors.invokeai.catalog import ModelCatalog
from atelier_engines.vendors.invokeai.config import InvokeAiConfig
from atelier_engines.vendors.invokeai.schemas import ModelRecord

DENOISE, OUTPUT, SEED = "denoise", "output", ("noise", "seed")
"""The denoising node, the node that outputs the image, and the field that takes the seed."""
STAGES = {"model": "load", "positive": "encode_text", DENOISE: "denoise", OUTPUT: "decode"}
"""Stages by the nodes that start them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedImages:
    """Names of the uploaded input images on the server."""

    init_image: str = ""
    """Init image; empty if there is none."""
    mask: str = ""
    """Mask, black where to inpaint; empty if there is none."""
    controls: tuple[str, ...] = ()
    """Control images, one for each control of the task."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all uploaded images."""
        return tuple(name for name in (self.init_image, self.mask, *self.controls) if name)


@dataclass(slots=True)
class _Graph:
    nodes: dict[str, JSON] = field(default_factory=dict)
    edges: list[JSON] = field(default_factory=list)

    def add(self, name: str, kind: str, **fields: JSON) -> str:
        self.nodes[name] = {"id": name, "type": kind, **fields}
        return name

    def connect(self, source: str, destination: str, *fields: str) -> None:
        """Connect output fields of one node to the input fields of the same names of another."""
        for name in fields:
            self.connect_field(source, name, destination, name)

    def connect_field(self, source: str, output: str, destination: str, into: str) -> None:
        """Connect an output field to an input field of another name."""
        self.edges.append(
            {
                "source": {"node_id": source, "field": output},
                "destination": {"node_id": destination, "field": into},
            }
        )


def build_graph(
    task: ImageTask,
    catalogue: ModelCatalog,
    uploaded: UploadedImages,
    config: InvokeAiConfig,
    *,
    board_id: str,
) -> dict[str, JSON]:
    """Build the graph for one image of the task, without its seed. Without a board the result is temporary."""
    graph = _Graph()
    main = catalogue.mains[task.model] if task.model else next(iter(catalogue.mains.values()))
    graph.add("model", "sdxl_model_loader", model=main.model_dump())
    graph.add(
        DENOISE,
        "denoise_latents",
        steps=task.steps,
        cfg_scale=task.guidance,
        scheduler=task.scheduler or config.scheduler,
        denoising_start=round(1.0 - task.strength, 4) if uploaded.init_image else 0.0,
        denoising_end=1.0,
    )
    graph.add("noise", "noise", width=task.width, height=task.height, use_cpu=True, use_cache=False)
    graph.connect("noise", DENOISE, "noise")
    _add_prompt_nodes(graph, task, _add_loras(graph, task, catalogue))
    _add_init_image(graph, uploaded, fp32=config.fp32)
    _add_controls(graph, task, catalogue, uploaded)
    board: dict[str, JSON] = {"board": {"board_id": board_id}} if board_id else {}
    graph.add(
        OUTPUT, "l2i", fp32=config.fp32, is_intermediate=not board_id, use_cache=False, **board
    )
    graph.connect(DENOISE, OUTPUT, "latents")
    graph.connect("model", OUTPUT, "vae")
    return {"id": "atelier", "nodes": graph.nodes, "edges": graph.edges}


def _add_loras(graph: _Graph, task: ImageTask, catalogue: ModelCatalog) -> str:
    """Add the LoRA loaders in series and return the last one; weights of a LoRA that is named twice are added."""
    weights: dict[str, float] = {}
    for lora in task.loras:
        weights[lora.name] = weights.get(lora.name, 0.0) + lora.weight
    last = "model"
    for number, (name, weight) in enumerate(weights.items()):
        record = catalogue.loras[name].model_dump()
        loader = graph.add(f"lora_{number}", "sdxl_lora_loader", lora=record, weight=weight)
        graph.connect(last, loader, "unet", "clip", "clip2")
        last = loader
    return last


def _add_prompt_nodes(graph: _Graph, task: ImageTask, model: str) -> None:
    graph.connect(model, DENOISE, "unet")
    sizes = {
        "original_width": task.width,
        "original_height": task.height,
        "target_width": task.width,
        "target_height": task.height,
    }
    for name, text in (("positive", task.prompt), ("negative", task.negative_prompt)):
        graph.add(name, "sdxl_compel_prompt", prompt=text, **sizes)
        graph.connect(model, name, "clip", "clip2")
        graph.connect_field(name, "conditioning", DENOISE, f"{name}_conditioning")


def _add_init_image(graph: _Graph, uploaded: UploadedImages, *, fp32: bool) -> None:
    if uploaded.init_image:
        graph.add("init_image", "i2l", image={"image_name": uploaded.init_image}, fp32=fp32)
        graph.connect("model", "init_image", "vae")
        graph.connect("init_image", DENOISE, "latents")
    if uploaded.mask:
        start, mask = ({"image_name": name} for name in (uploaded.init_image, uploaded.mask))
        graph.add("mask", "create_denoise_mask", image=start, mask=mask, fp32=fp32)
        graph.connect("model", "mask", "vae")
        graph.connect("mask", DENOISE, "denoise_mask")


def _add_controls(
    graph: _Graph, task: ImageTask, catalogue: ModelCatalog, uploaded: UploadedImages
) -> None:
    if not task.controls:
        return
    graph.add("controls", "collect")
    graph.connect_field("controls", "collection", DENOISE, "control")
    for number, (control, image) in enumerate(zip(task.controls, uploaded.controls, strict=True)):
        model = catalogue.controlnets[control.type]
        node = graph.add(
            f"control_{number}", "controlnet", **_control_fields(control, image, model)
        )
        graph.connect_field(node, "control", "controls", "item")


def _control_fields(control: Control, image: str, model: ModelRecord) -> dict[str, JSON]:
    return {
        "image": {"image_name": image},
        "control_model": model.model_dump(),
        "control_weight": control.strength,
        "begin_step_percent": control.start,
        "end_step_percent": control.end,
    }
