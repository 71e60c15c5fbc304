"""The section of a diffusion engine in the configuration file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

TINY = "atelier-tiny"
"""The model that the package `atelier_tiny` brings along."""

Precision = Literal["auto", "float32", "bfloat16", "float16"]

SchedulerName = Literal[
    "euler", "euler_a", "heun", "ddim", "dpmpp_2m", "dpmpp_2m_karras", "unipc", "lcm"
]


class DiffusionConfig(BaseModel):
    """Settings of one diffusion engine."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str = Field(
        default=TINY,
        min_length=1,
        description=(
            "The weights: a directory in diffusers' layout, a Hugging Face hub id (`owner/name`), "
            "or `atelier-tiny` for the small model that comes with Atelier."
        ),
    )
    revision: str | None = Field(
        default=None,
        description="Branch, tag or commit of a hub id; a commit pins it. Unset: the main branch.",
    )
    variant: str | None = Field(
        default=None,
        pattern="^[a-z0-9_]+$",
        description=(
            "Which weight files to use where a model comes in several, for instance `fp16`. "
            "Unset: those without a variant, else whatever there is."
        ),
    )
    download: bool = Field(
        default=True,
        description=(
            "Whether a hub id that is not in the local cache may be downloaded at the start. "
            "Off: the network is never used."
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
    max_count: int = Field(
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
