"""Settings of a comfyui engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from atelier_engines.addresses import Url
from atelier_engines.config import MAX_PAUSE_SECONDS, Section
from atelier_engines.header_values import HeaderName, SecretText
from atelier_engines.vendors.comfy_config import WorkflowConfig
from atelier_engines.vendors.config import MaxImages, RemoteConfig, TimeoutSeconds


class ServerConfig(Section):
    """One ComfyUI server."""

    url: Url = Field(pattern="^[^?#]+$", description="URL of the server, path of a proxy included.")
    headers: dict[HeaderName, SecretText] = Field(
        default_factory=dict,
        description="HTTP headers of every request, for a proxy in front of the server: "
        "ComfyUI itself needs no key.",
    )


class ComfyuiConfig(WorkflowConfig, RemoteConfig):
    """A comfyui engine's section in the configuration file."""

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "max_count": "max_images",
        "previews": "preview_method",
        "request_seconds": "response_timeout_seconds",
    }

    servers: tuple[ServerConfig, ...] = Field(
        min_length=1,
        description="Servers with the same nodes and models; each task runs on the one with the "
        "shortest queue. ComfyUI's default address is http://127.0.0.1:8188.",
    )
    models: tuple[str, ...] = Field(
        default=(),
        description="Model files to offer, the default first; if empty, all that every server lists.",
    )
    check_workflows: bool = Field(
        default=True,
        description="Whether workflows are checked at the start against what every server lists: inputs, lists, "
        "ranges, links. Turn it off for custom nodes that take more than they list.",
    )
    max_images: MaxImages = Field(
        default=4, description="Maximum images in one task; each is one job."
    )
    preview_method: Literal["auto", "latent2rgb", "taesd", "none"] = Field(
        default="auto",
        description="How the server generates previews; none turns them off. Servers of version 0.3 "
        "use their own --preview-method instead.",
    )
    concurrency: int = Field(
        default=4,
        ge=1,
        le=256,
        description="Maximum tasks sent to the servers at once; others wait in Atelier's queue.",
    )
    poll_seconds: float = Field(
        default=3.0,
        gt=0,
        le=MAX_PAUSE_SECONDS,
        description="After this time without a socket message the server is asked for the job's state.",
    )
    response_timeout_seconds: float = Field(
        default=60.0,
        gt=0,
        le=MAX_PAUSE_SECONDS,
        description="Maximum time for one response of a server.",
    )
    timeout_seconds: TimeoutSeconds = 1800.0

    @model_validator(mode="after")
    def _require_distinct_servers(self) -> Self:
        urls = [server.url for server in self.servers]
        if len(set(urls)) < len(urls):
            raise ValueError("servers names one URL twice")
        return self
