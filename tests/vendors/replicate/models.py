"""Models of the fake of Replicate, each with the OpenAPI document that Cog writes for it.

Source: stability-ai/sdxl is the response that the tests of the SDK `replicate` 1.0.7 have recorded. The models of Black
Forest Labs follow their public descriptions as of April 2026, and were not compared with the service; those of acme are
made up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SDXL = "stability-ai/sdxl"
SDXL_VERSION = "39ed52f2a78e934b3ba6e2a89f5b1c712de7dfea535525255b1aa35c5565e08b"
SCHNELL = "black-forest-labs/flux-schnell"
PRO = "black-forest-labs/flux-1.1-pro"
KONTEXT = "black-forest-labs/flux-kontext-pro"
FRAMES = "acme/frames"
LLAMA = "meta/meta-llama-3-8b-instruct"
UNSEEDED = "acme/unseeded"

_FILE = {"type": "string", "format": "uri"}
_FILES = {"type": "array", "items": _FILE, "title": "Output"}
_RATIOS = ["1:1", "16:9", "21:9", "3:2", "2:3", "4:5", "5:4", "3:4", "4:3", "9:16", "9:21"]
_SCHEDULERS = ["DDIM", "DPMSolverMultistep", "HeunDiscrete", "KarrasDPM", "K_EULER_ANCESTRAL"]
_SCHEDULERS += ["K_EULER", "PNDM"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeModel:
    """A model with one version."""

    version: str
    """Id of its version."""
    official: bool
    """Whether it is run by its name."""
    properties: Mapping[str, Any]
    """Schemas of its inputs."""
    required: tuple[str, ...] = ()
    """Inputs that a request must have."""
    output: Mapping[str, Any]
    """Schema of its output."""
    enums: Mapping[str, list[Any]]
    """Values of enumerations that inputs refer to."""

    @property
    def document(self) -> dict[str, Any]:
        """The OpenAPI document, without its paths."""
        enums = {
            name: {
                "enum": values,
                "type": "string",
                "title": name,
                "description": "An enumeration.",
            }
            for name, values in self.enums.items()
        }
        inputs = {"type": "object", "title": "Input", "properties": dict(self.properties)}
        if self.required:
            inputs["required"] = list(self.required)
        schemas = {"Input": inputs, "Output": dict(self.output), **enums}
        info = {"title": "Cog", "version": "0.1.0"}
        return {"openapi": "3.0.2", "info": info, "paths": {}, "components": {"schemas": schemas}}


def _integer(**limits: object) -> dict[str, Any]:
    return {"type": "integer", **limits}


def _number(**limits: object) -> dict[str, Any]:
    return {"type": "number", **limits}


def _text(**limits: object) -> dict[str, Any]:
    return {"type": "string", **limits}


def _refer(name: str, default: object) -> dict[str, Any]:
    return {"allOf": [{"$ref": f"#/components/schemas/{name}"}], "default": default, "x-order": 3}


def _switch(*, default: bool) -> dict[str, Any]:
    return {"type": "boolean", "default": default}


MODELS: Mapping[str, FakeModel] = {
    SDXL: FakeModel(
        version=SDXL_VERSION,
        official=False,
        properties={
            "prompt": _text(default="An astronaut riding a rainbow unicorn"),
            "negative_prompt": _text(default=""),
            "image": {**_FILE, "description": "Input image for img2img or inpaint mode"},
            "mask": {**_FILE, "description": "Black areas will be preserved, white inpainted."},
            "width": _integer(default=1024),
            "height": _integer(default=1024),
            "num_outputs": _integer(default=1, minimum=1, maximum=4),
            "scheduler": _refer("scheduler", "K_EULER"),
            "num_inference_steps": _integer(default=50, minimum=1, maximum=500),
            "guidance_scale": _number(default=7.5, minimum=1, maximum=50),
            "prompt_strength": _number(default=0.8, minimum=0, maximum=1),
            "seed": _integer(),
            "refine": _refer("refine", "no_refiner"),
            "high_noise_frac": _number(default=0.8, minimum=0, maximum=1),
            "refine_steps": _integer(),
            "apply_watermark": _switch(default=True),
            "replicate_weights": _text(),
            "disable_safety_checker": _switch(default=False),
        },
        output=_FILES,
        enums={
            "scheduler": _SCHEDULERS,
            "refine": ["no_refiner", "expert_ensemble_refiner", "base_image_refiner"],
        },
    ),
    SCHNELL: FakeModel(
        version="c846a69991daf4c0e5d016514849d14ee5b2e6846ce6b9d6f21369e564cfe51e",
        official=True,
        properties={
            "prompt": _text(),
            "aspect_ratio": _refer("aspect_ratio", "1:1"),
            "num_outputs": _integer(default=1, minimum=1, maximum=4),
            "num_inference_steps": _integer(default=4, minimum=1, maximum=4),
            "seed": _integer(nullable=True),
            "output_format": _refer("output_format", "webp"),
            "output_quality": _integer(default=80, minimum=0, maximum=100),
            "megapixels": _refer("megapixels", "1"),
            "go_fast": _switch(default=True),
            "disable_safety_checker": _switch(default=False),
        },
        required=("prompt",),
        output=_FILES,
        enums={
            "aspect_ratio": _RATIOS,
            "output_format": ["webp", "jpg", "png"],
            "megapixels": ["1", "0.25"],
        },
    ),
    PRO: FakeModel(
        version="609793a667ed94b210242837d3c3c9fc9a64ae93685f15d75002ba0ed9a97f2b",
        official=True,
        properties={
            "prompt": _text(),
            "image_prompt": _FILE,
            "aspect_ratio": _refer("aspect_ratio", "1:1"),
            "width": _integer(minimum=256, maximum=1440),
            "height": _integer(minimum=256, maximum=1440),
            "safety_tolerance": _integer(default=2, minimum=1, maximum=6),
            "seed": _integer(),
            "prompt_upsampling": _switch(default=False),
            "output_format": _refer("output_format", "webp"),
            "output_quality": _integer(default=80, minimum=0, maximum=100),
        },
        required=("prompt",),
        output={**_FILE, "title": "Output"},
        enums={"aspect_ratio": ["custom", *_RATIOS], "output_format": ["webp", "jpg", "png"]},
    ),
    KONTEXT: FakeModel(
        version="0f1178f5a27e9aa2d2d39c8a43c110f7fa7cbf64062ff04a04cd40899e546065",
        official=True,
        properties={
            "prompt": _text(),
            "input_image": {"anyOf": [_FILE, {"type": "null"}], "title": "Input Image"},
            "aspect_ratio": _refer("aspect_ratio", "match_input_image"),
            "seed": _integer(),
            "output_format": _refer("output_format", "png"),
        },
        required=("prompt",),
        output={**_FILE, "title": "Output"},
        enums={"aspect_ratio": ["match_input_image", *_RATIOS], "output_format": ["jpg", "png"]},
    ),
    FRAMES: FakeModel(
        version="a" * 64,
        official=False,
        properties={
            "text": _text(),
            "width": _integer(enum=[512, 256], default=256),
            "height": _integer(enum=[256, 512]),
            "loop": _text(enum=["on", "off"]),
            "seed": _integer(minimum=1, maximum=1000),
            "pages": {"type": "array", "items": _FILE},
        },
        required=("text", "loop"),
        output={**_FILES, "x-cog-array-type": "iterator"},
        enums={},
    ),
    UNSEEDED: FakeModel(
        version="b" * 64,
        official=False,
        properties={
            "prompt": _text(),
            "scheduler": _text(default="DDIM"),
            "mood": {"type": ["string", "null"], "description": None, "enum": ["calm", None]},
            "other_key": {"type": "string", "format": "password", "writeOnly": True},
        },
        output={"title": "Output"},
        enums={},
    ),
    LLAMA: FakeModel(
        version="5a6809ca6288247d06daf6365557e5e429063f32a21146b2a807c682652136b8",
        official=True,
        properties={"prompt": _text(default="")},
        output={"type": "array", "items": _text(), "x-cog-array-type": "iterator"},
        enums={},
    ),
}
"""Models by name."""
