"""What can be set about a comfyui engine."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, JsonValue, SecretStr, model_validator

from atelier_engines.config import Section
from atelier_engines.task import ControlType
from atelier_engines.vendors.price import PriceConfig
from atelier_engines.workflows import Mode


class ServerConfig(Section):
    """One ComfyUI server."""

    url: str = Field(
        pattern="^https?://[^?#]+$", description="Where it is, path of a proxy included."
    )
    headers: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Sent with every request, for the proxy before it: ComfyUI itself asks for no key.",
    )


class WorkflowConfig(Section):
    """A workflow of one's own."""

    graph: Path = Field(description="File that ComfyUI exported in API format.")
    bindings: Path = Field(description="File that says where a task's values go.")


class ComfyuiConfig(Section):
    """A comfyui engine's section in the configuration file."""

    servers: tuple[ServerConfig, ...] = Field(
        min_length=1,
        description="Servers with the same nodes and models; each task goes to the one with the "
        "least to do. ComfyUI listens at http://127.0.0.1:8188 unless told otherwise.",
    )
    family: Literal["sdxl", "flux"] = Field(
        default="sdxl", description="Whose workflows, sizes, steps and guidance to use."
    )
    workflows: dict[Mode, WorkflowConfig] = Field(
        default_factory=dict,
        description="Workflows of one's own, by txt2img, img2img and inpaint; with any of them, "
        "what has none is not offered.",
    )
    customise: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Changes to every workflow: nodes by id or title, merged recursively; null removes.",
    )
    models: tuple[str, ...] = Field(
        default=(),
        description="Files to offer, the default first; all that the servers list when empty.",
    )
    controlnets: dict[ControlType, str] = Field(
        default_factory=dict, description="ControlNet files by canny, depth, pose and segmentation."
    )
    max_pixels: int = Field(
        default=2048 * 2048, ge=64 * 64, description="Most pixels in a picture."
    )
    max_steps: int = Field(default=100, ge=1, le=1000, description="Most steps.")
    max_images: int = Field(
        default=4, ge=1, le=64, description="Most pictures in a task; each is a job of its own."
    )
    previews: Literal["auto", "latent2rgb", "taesd", "none"] = Field(
        default="auto",
        description="How the server makes previews; none says that it makes none. Servers of "
        "the 0.3 line obey their own --preview-method alone.",
    )
    price: PriceConfig | None = Field(
        default=None, description="Price to show and to count; free when null."
    )
    concurrency: int = Field(
        default=4,
        ge=1,
        le=256,
        description="Tasks handed to the servers at once; the rest waits here.",
    )
    poll_seconds: float = Field(
        default=3.0,
        gt=0,
        description="Longest silence after which the server is asked how a job stands.",
    )
    request_seconds: float = Field(
        default=60.0, gt=0, description="Longest that one answer of a server may take."
    )
    deadline_seconds: float = Field(
        default=1800.0, gt=0, description="Longest that a task may take, waiting included."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.workflows and Mode.TXT2IMG not in self.workflows:
            raise ValueError(
                "workflows needs txt2img, the one that every task without a picture uses"
            )
        addresses = [server.url for server in self.servers]
        if len(set(addresses)) < len(addresses):
            raise ValueError("servers names one address twice")
        return self
