"""The section of a diffusion engine in the configuration file."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from atelier_engines.diffusion.weights_config import WeightsConfig
from atelier_engines.preview import PreviewFormat
from atelier_engines.task import ResourceProfile
from atelier_engines.upscaling.config import UpscalerSettings

Precision = Literal["auto", "float32", "bfloat16", "float16"]

SchedulerName = Literal[
    "euler",
    "euler_a",
    "heun",
    "ddim",
    "ddpm",
    "pndm",
    "dpm2",
    "dpm2_a",
    "dpmpp_2m",
    "dpmpp_2m_karras",
    "dpmpp_2m_sde",
    "dpmpp_2m_sde_karras",
    "dpmpp_sde",
    "dpmpp_sde_karras",
    "deis",
    "unipc",
    "lcm",
    "tcd",
]

Prediction = Literal["epsilon", "v_prediction", "sample"]

Spacing = Literal["leading", "trailing", "linspace"]

PresetName = Literal["lightning", "turbo", "hyper", "lcm"]


PromptSyntax = Literal["weighted", "plain"]


class DiffusionConfig(WeightsConfig, UpscalerSettings):
    """Settings of one diffusion engine."""

    preset: PresetName | None = Field(
        default=None,
        description=(
            "What distilled models want: steps, guidance, scheduler and spacing in one word. Each "
            "of them that is set here wins."
        ),
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d{1,3})?)$",
        description="`cpu`, `cuda`, `cuda:1` …; `auto` takes the first CUDA device, else the CPU.",
    )
    precision: Precision = Field(
        default="auto",
        description=(
            "What the networks compute in; `auto` is float32 on the CPU and float16 on CUDA. "
            "float16 on a CPU works but is very slow."
        ),
    )
    vae_precision: Precision = Field(
        default="auto",
        description=(
            "What the autoencoder computes in; `auto` is `precision`, but float32 for those of "
            "SDXL that overflow in float16 (`force_upcast` in their configuration)."
        ),
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description=(
            "CPU threads that one operation may use. Unset: half of the cores that this process "
            "may use, so that the service stays responsive. The setting holds for the whole "
            "process; of several engines the last one to start decides."
        ),
    )
    steps: int | None = Field(
        default=None,
        ge=1,
        le=150,
        description="Denoising steps when the caller says nothing. Unset: what the model advises.",
    )
    guidance: float | None = Field(
        default=None,
        ge=0.0,
        le=30.0,
        description="Guidance when the caller says nothing. Unset: what the model advises.",
    )
    max_guidance: float | None = Field(
        default=None,
        ge=0.0,
        le=30.0,
        description="The most guidance a caller may ask for. Unset: what the preset says, else 30.",
    )
    width: int | None = Field(
        default=None,
        ge=64,
        multiple_of=8,
        description="Width when the caller says nothing. Unset: what the model advises.",
    )
    height: int | None = Field(
        default=None,
        ge=64,
        multiple_of=8,
        description="Height when the caller says nothing. Unset: what the model advises.",
    )
    scheduler: SchedulerName | None = Field(
        default=None,
        description="Scheduler when the caller says nothing. Unset: the model's own.",
    )
    spacing: Spacing | None = Field(
        default=None,
        description="How the time steps lie. Unset: what the preset says, else the model.",
    )
    prediction: Prediction | None = Field(
        default=None,
        description=(
            "What the denoiser predicts, where the model does not say it right; a single file of "
            "Stable Diffusion 2 made for 512 pixels needs `epsilon`."
        ),
    )
    prompt_syntax: PromptSyntax = Field(
        default="weighted",
        description=(
            "`weighted`: `(word)`, `[word]`, `(word:1.3)` and `BREAK` in prompts steer, and a "
            "backslash makes a bracket a plain sign. `plain`: all of a prompt is words."
        ),
    )
    prompt_cache: int = Field(
        default=64 * 2**20,
        ge=0,
        description=(
            "Bytes of the device's memory that keep encoded prompts, so that the same words are "
            "not encoded again; a prompt of SDXL takes 0.3 MB in float16. 0 keeps none."
        ),
    )
    preview_interval: int = Field(
        default=0,
        ge=0,
        le=150,
        description="Steps between previews when the caller says nothing; 0 for none.",
    )
    preview_pixels: int = Field(
        default=64,
        ge=16,
        le=512,
        description="Longest side of a preview in pixels; previews are never enlarged to it.",
    )
    preview_format: PreviewFormat = Field(
        default="jpeg",
        description="What previews are encoded as; `webp` is a little smaller and slower.",
    )
    preview_model: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "A tiny autoencoder for sharper previews: a directory, a `.safetensors` file, or a hub "
            "id, `madebyollin/taesdxl` for SDXL and `madebyollin/taesd` for Stable Diffusion 1.5 "
            "and 2.1. Unset: a linear map of the latents, which costs next to nothing."
        ),
    )
    profile: ResourceProfile = Field(
        default=ResourceProfile.BALANCED,
        description=(
            "What to spend, time or memory. `speed`: on CUDA the denoiser's weights lie as "
            "convolutions like them. `balanced`: everything as diffusers does it. `memory`: pictures are "
            "decoded in tiles, and on CUDA only the network that is at work is on the device. A caller "
            "may choose another one, which decides about the tiles alone."
        ),
    )
    memory_budget: float | None = Field(
        default=None,
        gt=0,
        description=(
            "Most memory of the device that networks may take, those of all engines together: "
            "up to 1 a fraction of it, above 1 bytes. What was used longest ago goes when it is "
            "needed. The setting holds for the device; of several engines the last one to start "
            "decides. Unset: 0.9 on CUDA, no limit on a CPU."
        ),
    )
    pin: bool = Field(
        default=False,
        description="Whether this engine's networks stay on the device, whatever else needs room.",
    )
    compile: bool = Field(
        default=False,
        description=(
            "Whether the denoiser's repeated blocks are compiled, on CUDA only: faster steps for a "
            "slower start, and a pause at each new size and set of LoRAs. Needs a C++ compiler."
        ),
    )
    max_pixels: int = Field(
        default=2048 * 1024,
        ge=64 * 64,
        description="Most pixels (width x height) in one picture.",
    )
    max_side: int = Field(
        default=2048,
        ge=64,
        multiple_of=8,
        description="Most pixels along one side of a picture.",
    )
    max_images: int = Field(
        default=8,
        ge=1,
        le=64,
        description="Most pictures in one task.",
    )
    concurrency: int = Field(
        default=4,
        ge=1,
        le=256,
        description=(
            "Tasks in hand at once. Their pictures share runs of the denoiser where that is worth "
            "it, and take turns step by step where not."
        ),
    )
    max_batch: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description=(
            "Most rows in one run of the denoiser; a picture has one row, with guidance two. "
            "Unset: what `atelier tune` has measured on this device, else one picture at a time on "
            "a CPU, and on CUDA as many as have eight million pixels together."
        ),
    )
    tuning_file: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Where `atelier tune` keeps what it has measured. Unset: ~/.cache/atelier/tuning.json."
        ),
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.variants and self.steps is not None and self.steps not in self.variants:
            known = ", ".join(map(str, sorted(self.variants)))
            raise ValueError(f"steps must be one of the variants {known}, not {self.steps}")
        ceiling = self.max_guidance
        if self.guidance is not None and ceiling is not None and self.guidance > ceiling:
            raise ValueError(f"guidance must be at most max_guidance, {ceiling}")
        return self
