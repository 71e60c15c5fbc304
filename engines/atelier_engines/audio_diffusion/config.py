"""The settings of every engine that makes audio by denoising latents."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from atelier_engines.config import Section
from atelier_engines.local.config import LocalModelConfig, Precision
from atelier_engines.reuse.config import ReuseConfig


class PromptMatchConfig(Section):
    """What scores the candidates of a task, and how many it may ask for."""

    model: str = Field(
        default="laion/clap-htsat-unfused",
        min_length=1,
        description=(
            "The CLAP model that compares clip and prompt: a directory with `model.safetensors` in the layout of "
            "transformers, or a Hugging Face hub id. It is loaded with the first task that asks for candidates."
        ),
    )
    max_candidates: int = Field(
        default=8,
        ge=2,
        le=32,
        description="Most candidates of a task; each takes as long as a clip.",
    )


class AudioModelConfig(LocalModelConfig):
    """Where the weights are, what their licence asks, and how tasks share the device."""

    precision: Precision = Field(
        default="auto",
        description=(
            "The number format that the denoiser computes in; `auto` is float32 on the CPU and bfloat16 on CUDA. The "
            "autoencoder always computes in float32: in float16 it makes noise."
        ),
    )
    digest: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description=(
            "The SHA-256 over the weights that is expected, as `atelier models` shows it. Other weights are refused."
        ),
    )
    accept_license: bool = Field(
        default=False,
        description=(
            "Whether you have read the licence of the weights and accept it; else nothing is downloaded or loaded."
        ),
    )
    runtime: Literal["torch", "onnx"] = Field(
        default="torch",
        description=(
            "What runs the denoiser and the decoder: `torch`, or `onnx`, which is ONNX Runtime, on the CPU in float32, "
            "and needs the extra `onnx`. Text encoder and the encoder of audio are run by torch."
        ),
    )
    builds_directory: Path | None = Field(
        default=None,
        description=(
            "Where the networks that `onnx` runs are kept, built once by `atelier build` or at the first start; about "
            "as large as their weights. Nobody else may write to it. Unset: ~/.cache/atelier/builds."
        ),
    )
    on_missing_build: Literal["build", "fail"] = Field(
        default="build",
        description=(
            "What to do at the start where a network is not built, or its files are not what was built: `build` it "
            "before the engine is ready, or `fail` until `atelier build` has built it."
        ),
    )
    steps: int | None = Field(
        default=None,
        ge=1,
        le=500,
        description="Default number of denoising steps. Unset: the model's own.",
    )
    guidance: float | None = Field(
        default=None,
        ge=0.0,
        le=30.0,
        description="Default guidance; up to 1 none. Unset: the model's own.",
    )
    concurrency: int = Field(
        default=4,
        ge=1,
        le=256,
        description=(
            "Tasks that run at once. They share runs of the denoiser where `max_batch` allows it, and alternate step "
            "by step where it does not."
        ),
    )
    max_batch: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description=(
            "Most rows in one run of the denoiser; a clip has one row, with guidance two. Unset: one clip at a time on "
            "a CPU, 16 rows on CUDA."
        ),
    )
    prompt_match: PromptMatchConfig | None = Field(
        default=None,
        description="Lets tasks ask for several `candidates`, of which the one that matches its prompt best is "
        "returned. Unset: the engine makes one clip for a task.",
    )
    reuse: ReuseConfig | None = Field(
        default=None,
        description="Has tasks without a seed get clips that were made before for the same or a similar prompt. Unset: "
        "every task makes its own clip.",
    )

    @property
    def scores_kept_clips(self) -> bool:
        """Whether clips that are kept for reuse are scored, too."""
        return self.reuse is not None and self.reuse.cap_strategy == "quality"

    @model_validator(mode="after")
    def _require_a_scorer(self) -> Self:
        if self.scores_kept_clips and self.prompt_match is None:
            raise ValueError(
                "reuse.cap_strategy: quality needs prompt_match, which scores the clips: set it, or another strategy"
            )
        return self

    @model_validator(mode="after")
    def _run_where_the_runtime_can(self) -> Self:
        if self.runtime == "onnx":
            self._require_cpu_and_float32()
        return self
