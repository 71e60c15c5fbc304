"""Node classes and files of the fake server, and its validation of graphs."""

from __future__ import annotations

from typing import Any

Json = Any
"""What JSON decodes to."""

CHECKPOINTS = ["sd_xl_base_1.0.safetensors", "juggernaut.safetensors"]
UNETS = ["flux1-dev.safetensors"]
LORAS = ["style/ink.safetensors", "hero.safetensors", "film.safetensors"]
CONTROLNETS = ["sdxl_depth.safetensors", "sdxl_canny.safetensors"]
SAMPLERS = ["euler", "euler_ancestral", "heun", "ddim", "dpmpp_2m", "uni_pc", "lcm"]
SCHEDULES = ["normal", "karras", "simple", "sgm_uniform", "ddim_uniform"]

NUMBER = ["FLOAT", {"default": 1.0}]
TEXT = ["STRING", {"multiline": True}]
MODEL, CLIP, VAE, COND = ["MODEL"], ["CLIP"], ["VAE"], ["CONDITIONING"]
LATENT, IMAGE, MASK = ["LATENT"], ["IMAGE"], ["MASK"]
WHOLE = ["INT", {"default": 1}]


def combo(*names: str) -> list[Any]:
    """Choices in the format of newer servers."""
    return ["COMBO", {"options": list(names)}]


SIZE = {"width": WHOLE, "height": WHOLE}
REQUIRED: dict[str, dict[str, Any]] = {
    "CheckpointLoaderSimple": {"ckpt_name": [CHECKPOINTS, {"tooltip": "which"}]},
    "UNETLoader": {"unet_name": [UNETS], "weight_dtype": [["default", "fp8_e4m3fn"]]},
    "DualCLIPLoader": {
        "clip_name1": [["clip_l.safetensors"]],
        "clip_name2": [["t5xxl_fp16.safetensors"]],
        "type": [["sdxl", "flux"]],
    },
    "VAELoader": {"vae_name": combo("ae.safetensors")},
    "CLIPTextEncode": {"text": TEXT, "clip": CLIP},
    "FluxGuidance": {"conditioning": COND, "guidance": NUMBER},
    "ConditioningZeroOut": {"conditioning": COND},
    "EmptyLatentImage": SIZE | {"batch_size": WHOLE},
    "EmptySD3LatentImage": SIZE | {"batch_size": WHOLE},
    "KSampler": {
        "model": MODEL,
        "positive": COND,
        "negative": COND,
        "latent_image": LATENT,
        "seed": WHOLE,
        "steps": WHOLE,
        "cfg": NUMBER,
        "sampler_name": [SAMPLERS],
        "scheduler": combo(*SCHEDULES),
        "denoise": NUMBER,
    },
    "VAEDecode": {"samples": LATENT, "vae": VAE},
    "VAEEncode": {"pixels": IMAGE, "vae": VAE},
    "SaveImage": {"images": IMAGE, "filename_prefix": TEXT},
    "LoadImage": {"image": [["example.png"], {"image_upload": True}]},
    "ImageScale": SIZE
    | {
        "image": IMAGE,
        "upscale_method": [["lanczos", "bilinear"]],
        "crop": [["disabled", "center"]],
    },
    "ImageToMask": {"image": IMAGE, "channel": [["red", "green", "blue"]]},
    "SetLatentNoiseMask": {"samples": LATENT, "mask": MASK},
    "ImageCompositeMasked": {
        "destination": IMAGE,
        "source": IMAGE,
        "x": WHOLE,
        "y": WHOLE,
        "resize_source": ["BOOLEAN"],
    },
    "LoraLoader": {
        "model": MODEL,
        "clip": CLIP,
        "lora_name": [LORAS],
        "strength_model": NUMBER,
        "strength_clip": NUMBER,
    },
    "ControlNetLoader": {"control_net_name": combo(*CONTROLNETS)},
    "ControlNetApplyAdvanced": {
        "positive": COND,
        "negative": COND,
        "control_net": ["CONTROL_NET"],
        "image": IMAGE,
        "strength": NUMBER,
        "start_percent": NUMBER,
        "end_percent": NUMBER,
    },
}
OPTIONAL: dict[str, dict[str, Any]] = {
    "ImageCompositeMasked": {"mask": MASK},
    "ControlNetApplyAdvanced": {"vae": VAE},
}


def object_info(*, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Response to GET /object_info."""
    return {
        name: {
            "input": {"required": required, "optional": OPTIONAL.get(name, {}), "hidden": {}},
            "output": [],
            "name": name,
            "display_name": name,
            "output_node": name == "SaveImage",
        }
        for name, required in REQUIRED.items()
        if name not in without
    }


def problem(kind: str, message: str, details: str = "", **extra: object) -> dict[str, Any]:
    """A validation error in the shape of the server."""
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


def find_problems(graph: Json, uploads: set[str]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Validation errors of a graph, as `error` and `node_errors`; None if it is valid."""
    if not isinstance(graph, dict) or "nodes" in graph or "links" in graph:
        return problem("invalid_prompt", "Cannot execute because a node is missing its class"), {}
    errors = {}
    for node_id, node in graph.items():
        kind = node.get("class_type")
        if kind not in REQUIRED:
            return problem(
                "missing_node_type", f"Node '{kind}' not found", f"Node ID '#{node_id}'"
            ), {}
        found = list(_find_node_problems(graph, node, uploads))
        if found:
            errors[node_id] = {"errors": found, "dependent_outputs": ["save"], "class_type": kind}
    if not any(node["class_type"] == "SaveImage" for node in graph.values()):
        return problem("prompt_no_outputs", "Prompt has no outputs"), {}
    if errors:
        return problem(
            "prompt_outputs_failed_validation", "Prompt outputs failed validation"
        ), errors
    return None


def _find_node_problems(graph: Json, node: Json, uploads: set[str]) -> Json:
    inputs, kind = node["inputs"], node["class_type"]
    allowed = REQUIRED[kind] | OPTIONAL.get(kind, {})
    for name, specification in REQUIRED[kind].items():
        if name not in inputs:
            yield problem(
                "required_input_missing", "Required input is missing", name, input_name=name
            )
            continue
        value = inputs[name]
        if isinstance(value, list):
            if value[0] not in graph:
                yield problem("bad_linked_input", "Bad linked input", name, input_name=name)
            continue
        choices = (
            specification[0] if isinstance(specification[0], list) else _options(specification)
        )
        if kind == "LoadImage":
            if value not in uploads:
                text = f"image - Invalid image file: {value}"
                yield problem("custom_validation_failed", "Custom validation failed for node", text)
        elif choices is not None and value not in choices:
            text = f"{name}: '{value}' not in {choices}"
            yield problem("value_not_in_list", "Value not in list", text, input_name=name)
    for name in inputs.keys() - allowed.keys():
        yield problem(
            "exception_during_validation", "the built-in workflows have no such input", name
        )


def _options(specification: list[Any]) -> list[str] | None:
    return specification[1]["options"] if specification[0] == "COMBO" else None
