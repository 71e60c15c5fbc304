"""Node classes and files of the fake server, as ComfyUI 0.33.0 describes them."""

from __future__ import annotations

from typing import Any

Json = Any
"""What JSON decodes to."""

CHECKPOINTS = ["sd_xl_base_1.0.safetensors", "juggernaut.safetensors", "tiny15.safetensors"]
UNETS = ["flux1-dev.safetensors", "flux1-dev-fp8.safetensors"]
LORAS = ["style/ink.safetensors", "hero.safetensors", "film.safetensors"]
CONTROLNETS = ["sdxl_depth.safetensors", "sdxl_canny.safetensors"]
SAMPLERS = ["euler", "euler_ancestral", "heun", "ddim", "dpmpp_2m", "uni_pc", "lcm"]
SCHEDULES = ["normal", "karras", "simple", "sgm_uniform", "ddim_uniform"]
UPSCALES = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]
MAX_SIDE = 16384


def number(low: float, high: float, default: float) -> list[Any]:
    """A float in that range."""
    return ["FLOAT", {"default": default, "min": low, "max": high, "step": 0.01}]


def whole(low: int, high: int, default: int) -> list[Any]:
    """A whole number in that range."""
    return ["INT", {"default": default, "min": low, "max": high}]


def combo(*names: str) -> list[Any]:
    """Choices in the format of newer servers."""
    return ["COMBO", {"multiselect": False, "options": list(names)}]


TEXT = ["STRING", {"multiline": True, "dynamicPrompts": True}]
SEED = whole(0, 2**64 - 1, 0)
STEPS = whole(1, 10000, 20)
MODEL, CLIP, VAE, COND = ["MODEL"], ["CLIP"], ["VAE"], ["CONDITIONING"]
LATENT, IMAGE, MASK = ["LATENT"], ["IMAGE"], ["MASK"]
EMPTY = {
    "width": whole(16, MAX_SIDE, 512),
    "height": whole(16, MAX_SIDE, 512),
    "batch_size": whole(1, 4096, 1),
}
PROMPTS = {"positive": COND, "negative": COND}

REQUIRED: dict[str, dict[str, Any]] = {
    "CheckpointLoaderSimple": {"ckpt_name": [CHECKPOINTS, {"tooltip": "which"}]},
    "UNETLoader": {
        "unet_name": [UNETS],
        "weight_dtype": [["default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"]],
    },
    "DualCLIPLoader": {
        "clip_name1": [["clip_l.safetensors"]],
        "clip_name2": [["t5xxl_fp16.safetensors", "t5xxl_fp8_e4m3fn.safetensors"]],
        "type": [["sdxl", "flux"]],
    },
    "VAELoader": {"vae_name": combo("ae.safetensors")},
    "CLIPTextEncode": {"text": TEXT, "clip": CLIP},
    "FluxGuidance": {"conditioning": COND, "guidance": number(0.0, 100.0, 3.5)},
    "ConditioningZeroOut": {"conditioning": COND},
    "EmptyLatentImage": EMPTY,
    "EmptySD3LatentImage": EMPTY,
    "KSampler": {
        "model": MODEL,
        "seed": SEED,
        "steps": STEPS,
        "cfg": number(0.0, 100.0, 8.0),
        "sampler_name": [SAMPLERS, {"tooltip": "which"}],
        "scheduler": combo(*SCHEDULES),
        **PROMPTS,
        "latent_image": LATENT,
        "denoise": number(0.0, 1.0, 1.0),
    },
    "RandomNoise": {"noise_seed": SEED},
    "KSamplerSelect": {"sampler_name": combo(*SAMPLERS)},
    "BasicScheduler": {
        "model": MODEL,
        "scheduler": combo(*SCHEDULES),
        "steps": STEPS,
        "denoise": number(0.0, 1.0, 1.0),
    },
    "CFGGuider": {"model": MODEL, **PROMPTS, "cfg": number(0.0, 100.0, 8.0)},
    "SamplerCustomAdvanced": {
        "noise": ["NOISE"],
        "guider": ["GUIDER"],
        "sampler": ["SAMPLER"],
        "sigmas": ["SIGMAS"],
        "latent_image": LATENT,
    },
    "LatentUpscaleBy": {
        "samples": LATENT,
        "upscale_method": [UPSCALES],
        "scale_by": number(0.01, 8.0, 1.5),
    },
    "VAEDecode": {"samples": LATENT, "vae": VAE},
    "VAEEncode": {"pixels": IMAGE, "vae": VAE},
    "SaveImage": {"images": IMAGE, "filename_prefix": ["STRING", {"default": "ComfyUI"}]},
    "PreviewImage": {"images": IMAGE},
    "LoadImage": {"image": [["example.png"], {"image_upload": True}]},
    "ImageScale": {
        "image": IMAGE,
        "upscale_method": [UPSCALES],
        "width": whole(0, MAX_SIDE, 512),
        "height": whole(0, MAX_SIDE, 512),
        "crop": [["disabled", "center"]],
    },
    "ImageToMask": {"image": IMAGE, "channel": [["red", "green", "blue"]]},
    "SetLatentNoiseMask": {"samples": LATENT, "mask": MASK},
    "ImageCompositeMasked": {
        "destination": IMAGE,
        "source": IMAGE,
        "x": whole(0, MAX_SIDE, 0),
        "y": whole(0, MAX_SIDE, 0),
        "resize_source": ["BOOLEAN", {"default": False}],
    },
    "LoraLoader": {
        "model": MODEL,
        "clip": CLIP,
        "lora_name": [LORAS],
        "strength_model": number(-100.0, 100.0, 1.0),
        "strength_clip": number(-100.0, 100.0, 1.0),
    },
    "LoraLoaderModelOnly": {
        "model": MODEL,
        "lora_name": [LORAS],
        "strength_model": number(-100.0, 100.0, 1.0),
    },
    "ControlNetLoader": {"control_net_name": combo(*CONTROLNETS)},
    "ControlNetApplyAdvanced": {
        **PROMPTS,
        "control_net": ["CONTROL_NET"],
        "image": IMAGE,
        "strength": number(0.0, 10.0, 1.0),
        "start_percent": number(0.0, 1.0, 0.0),
        "end_percent": number(0.0, 1.0, 1.0),
    },
    "ModelSamplingFlux": {
        "model": MODEL,
        "max_shift": number(0.0, 100.0, 1.15),
        "base_shift": number(0.0, 100.0, 0.5),
        "width": whole(16, MAX_SIDE, 1024),
        "height": whole(16, MAX_SIDE, 1024),
    },
    # ComfyUI-Easy-Use, py/nodes/loaders.py
    "easy loraStack": {
        "toggle": ["BOOLEAN", {"label_on": "on", "label_off": "off"}],
        "mode": [["simple", "advanced"]],
        "num_loras": whole(1, 10, 1),
    },
    "easy loraStackApply": {"lora_stack": ["LORA_STACK"], "model": MODEL},
    # ComfyUI-TeaCache, nodes.py
    "TeaCache": {
        "model": MODEL,
        "model_type": [["flux", "flux-kontext", "ltxv", "lumina_2"], {"default": "flux"}],
        "rel_l1_thresh": number(0.0, 10.0, 0.4),
        "start_percent": number(0.0, 1.0, 0.0),
        "end_percent": number(0.0, 1.0, 1.0),
        "cache_device": [["cuda", "cpu"], {"default": "cuda"}],
    },
}
STACKED = {
    f"lora_{n}_{part}": [["None", *LORAS], {"default": "None"}]
    if part == "name"
    else number(-10, 10, 1)
    for n in range(1, 11)
    for part in ("name", "strength", "model_strength", "clip_strength")
}
OPTIONAL: dict[str, dict[str, Any]] = {
    "ImageCompositeMasked": {"mask": MASK},
    "ControlNetApplyAdvanced": {"vae": VAE},
    "easy loraStack": {"optional_lora_stack": ["LORA_STACK"], **STACKED},
    "easy loraStackApply": {"optional_clip": CLIP},
}
CUSTOM = {"easy loraStack": "ComfyUI-Easy-Use", "easy loraStackApply": "ComfyUI-Easy-Use"}
CUSTOM |= {"TeaCache": "ComfyUI-TeaCache"}
"""Packages of the classes that are not ComfyUI's own."""
OUTPUTS: dict[str, list[str]] = {
    "CheckpointLoaderSimple": ["MODEL", "CLIP", "VAE"],
    "UNETLoader": ["MODEL"],
    "DualCLIPLoader": ["CLIP"],
    "VAELoader": ["VAE"],
    "RandomNoise": ["NOISE"],
    "KSamplerSelect": ["SAMPLER"],
    "BasicScheduler": ["SIGMAS"],
    "CFGGuider": ["GUIDER"],
    "SamplerCustomAdvanced": ["LATENT", "LATENT"],
    "VAEDecode": ["IMAGE"],
    "SaveImage": [],
    "PreviewImage": [],
    "LoadImage": ["IMAGE", "MASK"],
    "ImageScale": ["IMAGE"],
    "ImageCompositeMasked": ["IMAGE"],
    "ImageToMask": ["MASK"],
    "LoraLoader": ["MODEL", "CLIP"],
    "LoraLoaderModelOnly": ["MODEL"],
    "ControlNetLoader": ["CONTROL_NET"],
    "ControlNetApplyAdvanced": ["CONDITIONING", "CONDITIONING"],
    "CLIPTextEncode": ["CONDITIONING"],
    "FluxGuidance": ["CONDITIONING"],
    "ConditioningZeroOut": ["CONDITIONING"],
    "ModelSamplingFlux": ["MODEL"],
    "TeaCache": ["MODEL"],
    "easy loraStack": ["LORA_STACK"],
    "easy loraStackApply": ["MODEL", "CLIP"],
}
"""Types of the outputs; of the classes that are not here, one LATENT."""
SAVERS = {"SaveImage": "output", "PreviewImage": "temp"}
"""Classes that save images, and the type of their files."""


def output_types(kind: str) -> list[str]:
    """Types of the outputs of a class."""
    return OUTPUTS.get(kind, ["LATENT"])


def object_info(*, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Response to GET /object_info."""
    return {
        name: {
            "input": {"required": required, "optional": OPTIONAL.get(name, {}), "hidden": {}},
            "input_order": {"required": [*required], "optional": [*OPTIONAL.get(name, {})]},
            "output": output_types(name),
            "output_is_list": [False] * len(output_types(name)),
            "output_name": output_types(name),
            "name": name,
            "display_name": name,
            "python_module": f"custom_nodes.{CUSTOM[name]}" if name in CUSTOM else "nodes",
            "output_node": name in SAVERS,
        }
        for name, required in REQUIRED.items()
        if name not in without
    }
