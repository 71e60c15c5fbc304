"""What can be set about an invokeai engine."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from atelier_engines.config import Section
from atelier_engines.vendors.price import PriceConfig

SCHEDULERS = (
    *("ddim", "ddpm", "deis", "deis_k", "lms", "lms_k", "pndm", "heun", "heun_k"),
    *("euler", "euler_k", "euler_a", "kdpm_2", "kdpm_2_k", "kdpm_2_a", "kdpm_2_a_k"),
    *("dpmpp_2s", "dpmpp_2s_k", "dpmpp_2m", "dpmpp_2m_k", "dpmpp_2m_sde", "dpmpp_2m_sde_k"),
    *("dpmpp_3m", "dpmpp_3m_k", "dpmpp_sde", "dpmpp_sde_k", "er_sde"),
    *("unipc", "unipc_k", "lcm", "tcd"),
)
"""By the names that the server has for them.

Source: InvokeAI 6.14.2, backend/stable_diffusion/schedulers/schedulers.py.
"""


class InvokeAiConfig(Section):
    """An invokeai engine's section in the configuration file."""

    base_url: str = Field(
        default="http://127.0.0.1:9090",
        pattern="^https?://",
        description="Where the server is, with the path before `/api` where there is one.",
    )
    email: str | None = Field(
        default=None, description="Whom to sign in as; null for a server without users."
    )
    password: SecretStr | None = Field(
        default=None, description="The password that belongs to `email`: ${INVOKEAI_PASSWORD}."
    )
    model: str = Field(
        default="",
        description="SDXL model that draws when the caller names none; empty for the first that the server lists.",
    )
    controlnets: dict[Literal["canny", "depth", "pose", "segmentation"], str] = Field(
        default_factory=dict,
        description="Name of the server's SDXL ControlNet for each kind of control picture: "
        "canny, depth, pose, segmentation.",
    )
    board: str | None = Field(
        default=None,
        min_length=1,
        description="Board to keep the pictures on, made if it is not there; "
        "null deletes them from the server once they have been fetched.",
    )
    width: int = Field(
        default=1024,
        ge=64,
        le=2048,
        multiple_of=8,
        description="Width when the caller says nothing.",
    )
    height: int = Field(
        default=1024,
        ge=64,
        le=2048,
        multiple_of=8,
        description="Height when the caller says nothing.",
    )
    steps: int = Field(
        default=30, ge=1, le=150, description="Denoising steps when the caller says nothing."
    )
    guidance: float = Field(
        default=7.5, ge=1, le=30, description="Guidance when the caller says nothing."
    )
    scheduler: str = Field(
        default="euler",
        description="Scheduler when the caller says nothing: " + ", ".join(SCHEDULERS) + ".",
    )
    fp32: bool = Field(
        default=True,
        description="Encode and decode pictures in 32 bits; the VAE that came with SDXL overflows in 16.",
    )
    price: PriceConfig | None = Field(
        default=None, description="Price to show and to count; free when null."
    )
    max_images: int = Field(default=4, ge=1, le=64, description="Most pictures in one task.")
    concurrency: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Tasks given to the server at once; it works on one at a time for each of its GPUs.",
    )
    poll_seconds: float = Field(
        default=2.0,
        gt=0,
        description="Pause between two questions for a picture's state while the server's events are missing.",
    )
    deadline_seconds: float = Field(
        default=900.0,
        gt=0,
        description="Longest that a task may take, its wait at the server included.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.scheduler not in SCHEDULERS:
            raise ValueError(f"scheduler must be one of {', '.join(SCHEDULERS)}")
        if (self.email is None) != (self.password is None):
            raise ValueError("email and password belong together: set both or none")
        return self
