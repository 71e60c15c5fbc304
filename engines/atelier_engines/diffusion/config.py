"""The section of a diffusion engine in the configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from atelier_engines.diffusion.runtimes_config import (
    LIBRARY_NAMES,
    PLAN_ROWS,
    CompileBucket,
    ComponentRuntimes,
    OnMissingBuild,
    RuntimeName,
    same_for_all,
)
from atelier_engines.diffusion.weights_config import WeightsConfig
from atelier_engines.local.config import LocalModelConfig, Precision
from atelier_engines.preview import PreviewFormat
from atelier_engines.task import ResourceProfile
from atelier_engines.upscaling.config import UpscalerSettings

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

PredictionType = Literal["epsilon", "v_prediction", "sample"]

TimestepSpacing = Literal["leading", "trailing", "linspace"]

MaskMode = Literal["composite", "latent"]

PresetName = Literal["lightning", "turbo", "hyper", "lcm"]


PromptSyntax = Literal["weighted", "plain"]


class DiffusionConfig(WeightsConfig, LocalModelConfig, UpscalerSettings):
    """Settings of one diffusion engine."""

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "max_count": "max_images",
        "onnx_directory": "builds_directory",
        "pin": "keep_loaded",
        "prediction": "prediction_type",
        "prompt_cache": "prompt_cache_bytes",
        "spacing": "timestep_spacing",
        "threads": "`threads` at the top of the configuration, for the whole process",
    }

    preset: PresetName | None = Field(
        default=None,
        description=(
            "Defaults for distilled models: steps, guidance, scheduler and timestep spacing. A "
            "value that is set here takes precedence."
        ),
    )
    vae_precision: Precision = Field(
        default="auto",
        description=(
            "The number format that the autoencoder computes in; `auto` is `precision`, but float32 for those of "
            "SDXL that overflow in float16 (`force_upcast` in their configuration)."
        ),
    )
    steps: int | None = Field(
        default=None,
        ge=1,
        le=150,
        description="Default number of denoising steps. Unset: the model's own.",
    )
    guidance: float | None = Field(
        default=None,
        ge=0.0,
        le=30.0,
        description="Default guidance. Unset: the model's own.",
    )
    max_guidance: float | None = Field(
        default=None,
        ge=0.0,
        le=30.0,
        description="Highest guidance that a caller may ask for. Unset: the preset's, else 30.",
    )
    width: int | None = Field(
        default=None,
        ge=64,
        multiple_of=8,
        description="Default width in pixels. Unset: the model's own.",
    )
    height: int | None = Field(
        default=None,
        ge=64,
        multiple_of=8,
        description="Default height in pixels. Unset: the model's own.",
    )
    scheduler: SchedulerName | None = Field(
        default=None,
        description="Default scheduler. Unset: the model's own.",
    )
    timestep_spacing: TimestepSpacing | None = Field(
        default=None,
        description="How the timesteps are spaced. Unset: as in the preset, else as in the model.",
    )
    prediction_type: PredictionType | None = Field(
        default=None,
        description=(
            "What the denoiser predicts, where the model's files are wrong or contradict each other. "
            "Unset: what they say."
        ),
    )
    prompt_syntax: PromptSyntax = Field(
        default="weighted",
        description=(
            "`weighted`: `(word)`, `[word]`, `(word:1.3)` and `BREAK` in prompts are syntax, and a "
            "backslash escapes a bracket, and the names of embeddings are read. `plain`: prompts have no syntax."
        ),
    )
    prompt_cache_bytes: int = Field(
        default=64 * 2**20,
        ge=0,
        description=(
            "Bytes of the device's memory for encoded prompts, so that the same prompt is not "
            "encoded again; a prompt of SDXL takes 0.3 MB in float16. 0 disables the cache."
        ),
    )
    preview_interval: int = Field(
        default=0,
        ge=0,
        le=150,
        description="Default number of steps between previews; 0 for none.",
    )
    preview_pixels: int = Field(
        default=64,
        ge=16,
        le=512,
        description="Longest side of a preview in pixels; previews are never upscaled to it.",
    )
    preview_format: PreviewFormat = Field(
        default="jpeg",
        description="The file format of previews; `webp` is a little smaller and slower.",
    )
    preview_model: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "A tiny autoencoder for sharper previews: a directory, a `.safetensors` file, or a hub "
            "id, `madebyollin/taesdxl` for SDXL and `madebyollin/taesd` for Stable Diffusion 1.5 "
            "and 2.1. Unset: a linear map of the latents, which takes almost no time."
        ),
    )
    profile: ResourceProfile = Field(
        default=ResourceProfile.BALANCED,
        description=(
            "What to save, time or memory. `speed`: on CUDA the denoiser's weights are stored "
            "channels-last. `balanced`: everything as in diffusers. `memory`: images are decoded in "
            "tiles, and on CUDA only the component that is running is on the device. A caller may "
            "choose another one, which affects the tiles alone."
        ),
    )
    mask_mode: MaskMode = Field(
        default="composite",
        description=(
            "What masks mean. `composite`: every marked pixel is inpainted, however thin the mark, and the rest of the "
            "init image is kept to the byte, but for a feather of 8 pixels. `latent`: as in diffusers, where marks "
            "thinner than 8 pixels may have no effect and the autoencoder changes what is kept."
        ),
    )
    compile: Literal[False, "regions"] = Field(
        default=False,
        description=(
            "`regions`: the blocks that repeat in denoiser and ControlNets are compiled with torch at the start, for "
            "the shapes of `compile_buckets`; faster steps, and a start that takes minutes longer. Other shapes, and "
            "tasks with LoRAs, run as without it. Needs a C++ compiler."
        ),
    )
    compile_buckets: tuple[CompileBucket, ...] = Field(
        default=(),
        max_length=32,
        description=(
            "The shapes that `compile` compiles for, and that plans of TensorRT are fastest at. Empty: an image of the "
            "default size and guidance for `compile`; no shape before others for plans."
        ),
    )
    channels_last: bool | None = Field(
        default=None,
        description=(
            "Whether the convolutions of denoiser and ControlNets are stored channels-last, which changes the last "
            "bits. Unset: on CUDA with `profile: speed`."
        ),
    )
    runtime: Literal["auto"] | RuntimeName | ComponentRuntimes = Field(
        default="auto",
        description=(
            "What runs the model: `torch`; `onnx`, which is ONNX Runtime, on the CPU in float32; `tensorrt`, and "
            "`tensorrt_rtx`, which is TensorRT for RTX, on CUDA and not yet seen to run there; or one for each of "
            "`text_encoders`, `denoiser`, `controlnets` and `autoencoder`, where what is left out is run by `torch`. "
            "They need the extras `onnx`, `tensorrt` and `tensorrt-rtx`. `auto` is `onnx` for the "
            "networks of `atelier-tiny` on a CPU where that extra is installed and no other setting needs torch, else "
            "`torch`."
        ),
    )
    builds_directory: Path | None = Field(
        default=None,
        description=(
            "Where the networks that `onnx`, `tensorrt` and `tensorrt_rtx` run are kept, built once by `atelier build` "
            "or at the first start, about as large as their weights, and the libraries that it fetches. Nobody else "
            "may write to it. Unset: ~/.cache/atelier/builds."
        ),
    )
    on_missing_build: OnMissingBuild | None = Field(
        default=None,
        description=(
            "What to do at the start where a network is not built, or its files are not what was built. `build`: build "
            "it before the engine is ready. `fallback`: torch runs the component, which the log, a metric and the "
            "capabilities say. `build_or_fallback`: build it, and fall back where that fails. `fail`: the engine is "
            "not ready until `atelier build` has built it. Unset: `build_or_fallback` with `runtime: auto`, else "
            "`build`."
        ),
    )
    max_pixels: int = Field(
        default=2048 * 1024,
        ge=64 * 64,
        description="Most pixels (width x height) in one image.",
    )
    max_side: int = Field(
        default=2048,
        ge=64,
        multiple_of=8,
        description="Most pixels along one side of an image.",
    )
    max_images: int = Field(
        default=8,
        ge=1,
        le=64,
        description="Most images in one task.",
    )
    concurrency: int = Field(
        default=4,
        ge=1,
        le=256,
        description=(
            "Tasks that run at once. Their images share runs of the denoiser where that is faster, "
            "and alternate step by step where it is not."
        ),
    )
    max_batch: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description=(
            "Most rows in one run of the denoiser; an image has one row, with guidance two. "
            "Unset: what `atelier tune` has measured on this device, else one image at a time on "
            "a CPU, and on CUDA as many as have eight million pixels together."
        ),
    )
    tuning_file: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "The file in which `atelier tune` stores its results. Unset: ~/.cache/atelier/tuning.json."
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
        self._require_what_onnx_can()
        self._require_what_plans_can()
        self._require_what_compiles()
        return self

    def _require_what_compiles(self) -> None:
        """Raise where nothing would be compiled, or for sizes that are refused.

        Raises:
            ValueError: that is so; the message names the setting.
        """
        if self.compile_buckets and not (self.compile or self.compiles_plans):
            raise ValueError("compile_buckets need compile: regions, or a runtime of TensorRT")
        if self.compile and self.runtimes.denoiser != "torch":
            raise ValueError(
                f"compile is for the runtime torch, and the denoiser is run by {self.runtimes.denoiser}"
            )
        for bucket in self.compile_buckets:
            if max(bucket.width, bucket.height) > self.max_side:
                raise ValueError(
                    f"compile_buckets has {bucket.width} x {bucket.height}, and max_side is {self.max_side}"
                )

    @field_validator("compile", mode="before")
    @classmethod
    def _name_what_is_compiled(cls, value: object) -> object:
        if value is True:
            raise ValueError(
                "true is now `regions`, which compiles for the shapes of compile_buckets"
            )
        return value

    @property
    def runtimes(self) -> ComponentRuntimes:
        """What runs each component; torch for all before `auto` is decided."""
        chosen = self.runtime
        if isinstance(chosen, ComponentRuntimes):
            return chosen
        return same_for_all("torch" if chosen == "auto" else chosen)

    @property
    def compiles_plans(self) -> bool:
        """Whether components are run from plans, which are compiled for ranges of shapes on CUDA."""
        return not self.runtimes.names.isdisjoint(LIBRARY_NAMES)

    @property
    def max_rows(self) -> int | None:
        """The most rows in one run of the denoiser, where that is configured or a plan limits them."""
        if self.max_batch is None and self.runtimes.denoiser in LIBRARY_NAMES:
            return PLAN_ROWS
        return self.max_batch

    def _require_what_plans_can(self) -> None:
        """Raise where a setting asks for what has no plans.

        Raises:
            ValueError: one does; the message names it.
        """
        if not self.compiles_plans:
            return
        name, *others = (one for one in LIBRARY_NAMES if one in self.runtimes.names)
        if others:
            raise ValueError(f"the runtimes {name} and {others[0]} exclude each other: choose one")
        if any(device.startswith("cpu") for device in (self.device, *self.devices)):
            raise ValueError(
                f"the runtime {name} runs on CUDA: set device to cuda:0, or runtime to torch or onnx"
            )
        if "onnx" in self.runtimes.names:
            raise ValueError(f"the runtime {name} runs on CUDA, and onnx on the CPU: choose one")

    def _require_what_onnx_can(self) -> None:
        """Raise where a setting asks for what ONNX Runtime is not used for here.

        Raises:
            ValueError: one does; the message names it.
        """
        runtimes = self.runtimes
        if "onnx" not in runtimes.names:
            return
        self._require_cpu_and_float32()
        if runtimes.autoencoder == "onnx" and self.vae_precision not in ("auto", "float32"):
            raise ValueError(
                "the runtime onnx computes in float32: vae_precision must be float32 or auto, "
                f"not {self.vae_precision}"
            )
