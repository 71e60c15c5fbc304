"""Settings of an invokeai engine."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from atelier_engines.config import MAX_PAUSE_SECONDS, Section
from atelier_engines.header_values import SecretText
from atelier_engines.vendors.config import BaseUrl, MaxImages, RemoteConfig, TimeoutSeconds

SCHEDULERS = (
    *("ddim", "ddpm", "deis", "deis_k", "lms", "lms_k", "pndm", "heun", "heun_k"),
    *("euler", "euler_k", "euler_a", "kdpm_2", "kdpm_2_k", "kdpm_2_a", "kdpm_2_a_k"),
    *("dpmpp_2s", "dpmpp_2s_k", "dpmpp_2m", "dpmpp_2m_k", "dpmpp_2m_sde", "dpmpp_2m_sde_k"),
    *("dpmpp_3m", "dpmpp_3m_k", "dpmpp_sde", "dpmpp_sde_k", "er_sde"),
    *("unipc", "unipc_k", "lcm", "tcd"),
)
"""Schedulers, by the server's names.

Source: InvokeAI 6.14.2, backend/stable_diffusion/schedulers/schedulers.py.
"""


SizeMode = Literal["any", "nearest"]


class InvokeAiOptions(Section):
    """Options of one task."""

    style_preset: str | None = Field(
        default=None,
        description="Style preset of the server, by its name: its prompts are put around those of the task.",
    )
    sizes: SizeMode | None = Field(
        default=None,
        description="nearest, or any for the size as requested; as configured if unset.",
    )


class InvokeAiConfig(RemoteConfig):
    """An invokeai engine's section in the configuration file."""

    base_url: BaseUrl = Field(
        default="http://127.0.0.1:9090",
        description="URL of the server, with the path before `/api` if there is one.",
    )
    email: str | None = Field(
        default=None, description="Account to sign in with; null for a server without users."
    )
    password: SecretText | None = Field(
        default=None, description="Password of the account: ${INVOKEAI_PASSWORD}."
    )
    model: str = Field(
        default="",
        description="Default SDXL model; empty for the first that the server lists.",
    )
    controlnets: dict[Literal["canny", "depth", "pose", "segmentation"], str] = Field(
        default_factory=dict,
        description="Name of the server's SDXL ControlNet for each control type: "
        "canny, depth, pose, segmentation.",
    )
    board: str | None = Field(
        default=None,
        min_length=1,
        description="Board that keeps the images, created if it does not exist; "
        "null deletes them from the server after the download.",
    )
    width: int = Field(
        default=1024,
        ge=64,
        le=2048,
        multiple_of=8,
        description="Default width in pixels.",
    )
    height: int = Field(
        default=1024,
        ge=64,
        le=2048,
        multiple_of=8,
        description="Default height in pixels.",
    )
    sizes: SizeMode = Field(
        default="any",
        description="Sizes to make: any, as requested; nearest, the one that SDXL was trained with whose proportions "
        "are nearest.",
    )
    steps: int = Field(default=30, ge=1, le=150, description="Default denoising steps.")
    guidance: float = Field(default=7.5, ge=1, le=30, description="Default guidance.")
    scheduler: str = Field(
        default="euler",
        description="Default scheduler: " + ", ".join(SCHEDULERS) + ".",
    )
    fp32: bool = Field(
        default=True,
        description="Run the VAE in 32 bits; the original VAE of SDXL overflows in 16.",
    )
    max_images: MaxImages = Field(
        default=4, description="Maximum images in one task; each is one item of the queue."
    )
    concurrency: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Maximum tasks in the server's queue at once; it runs one per GPU.",
    )
    poll_seconds: float = Field(
        default=2.0,
        gt=0,
        le=MAX_PAUSE_SECONDS,
        description="Interval of polling an image's state while the server's events are missing.",
    )
    timeout_seconds: TimeoutSeconds = 900.0

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.scheduler not in SCHEDULERS:
            raise ValueError(f"scheduler must be one of {', '.join(SCHEDULERS)}")
        if (self.email is None) != (self.password is None):
            raise ValueError("email and password belong together: set both or neither")
        return self
