"""Settings of a fal engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from atelier_engines.config import MAX_KEEP_SECONDS
from atelier_engines.task import SafetyMode
from atelier_engines.vendors.comfy_config import WorkflowSetConfig
from atelier_engines.vendors.config import (
    ApiKey,
    BaseUrl,
    Concurrency,
    JobsConfig,
)
from atelier_engines.vendors.fal.models import MODELS, FalPriority

_QUEUE_URL, _QUEUE_BACKUP_URL = "https://queue.fal.run", "https://queue.falrun.com"
FalEndpoint = Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)+$")]
"""Path of a model or an app."""


class FalComfyConfig(WorkflowSetConfig):
    """ComfyUI workflows, run by your own app at fal."""

    endpoint: FalEndpoint = Field(
        description="The app's endpoint, such as me/comfy/generate; docs/engines/fal.md says what it is sent.",
    )


class FalConfig(JobsConfig):
    """A fal engine's section in the configuration file."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"pictures": "image_transfer"}

    api_key: ApiKey = Field(description="API key of the account: ${FAL_KEY}.")
    base_url: BaseUrl = _QUEUE_URL
    backup_url: BaseUrl | None = Field(
        default=None,
        description="URL of the same service on another domain, for what cannot be sent to base_url; if null, "
        "https://queue.falrun.com for https://queue.fal.run, and none for other URLs.",
    )
    model: str = Field(
        default="fal-ai/fast-lightning-sdxl",
        description="Model: " + ", ".join(MODELS) + ". Unused with `comfy`.",
    )
    further_endpoints: tuple[FalEndpoint, ...] = Field(
        default=(),
        description="Endpoints that take the same requests as the model, or with `comfy` as its app, at the same "
        "price; requests may name one in options.endpoint.",
    )
    steps: int | None = Field(
        default=None,
        description="Fixes fal-ai/fast-lightning-sdxl to 1, 2, 4 or 8 steps; 4 or 8 by the task when null.",
    )
    loras: dict[str, str] = Field(
        default_factory=dict,
        description="URLs of LoRA files by the names that requests use; for fal-ai/fast-sdxl.",
    )
    comfy: FalComfyConfig | None = Field(
        default=None, description="ComfyUI workflows instead of a model."
    )
    safety: SafetyMode = Field(
        default=SafetyMode.BLOCK,
        description="What to do with images that the service flags: block; flag, which returns the "
        "black image that it makes of them; off, which disables the check. Callers may be stricter.",
    )
    image_transfer: Literal["inline", "hosted"] = Field(
        default="inline",
        description="How images are sent: inside the request, or uploaded to fal's storage first, "
        "where anybody who knows the URL can see them.",
    )
    rest_url: BaseUrl = Field(
        default="https://rest.fal.ai", description="URL of the API that issues upload tokens."
    )
    storage_url: BaseUrl = Field(
        default="https://v3.fal.media",
        description="URL of the storage that images are uploaded to.",
    )
    output_format: Literal["png", "jpeg"] = Field(
        default="png", description="File format of the images; not for `comfy`."
    )
    expire_seconds: int | None = Field(
        default=3600,
        ge=60,
        le=MAX_KEEP_SECONDS,
        description="Time after which the service may delete generated and uploaded images; the former are downloaded "
        "at once. The service's default when null.",
    )
    priority: FalPriority | None = Field(
        default=None,
        description="Priority of the jobs in the queue; the service's default when null.",
    )
    concurrency: Concurrency = Field(
        default=2,
        description="Maximum tasks at once; the service runs 2 for a new account and queues more.",
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.comfy is not None:
            if self.loras or self.steps is not None:
                raise ValueError("with comfy, set LoRAs in comfy.loras, and steps in the request")
            return self
        spec = MODELS.get(self.model)
        if spec is None:
            raise ValueError(f"model must be one of {', '.join(MODELS)}")
        if self.loras and not spec.max_loras:
            raise ValueError(f"{self.model} takes no loras")
        if self.steps is not None and self.steps not in spec.fixed_steps:
            choice = ", ".join(map(str, spec.fixed_steps)) or "left out"
            raise ValueError(f"steps of {self.model} must be {choice}")
        return self

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All endpoints, the one for tasks that name none first."""
        own = self.model if self.comfy is None else self.comfy.endpoint
        return (own, *self.further_endpoints)

    @property
    def second_url(self) -> str | None:
        """URL on the second domain; None if there is none."""
        if self.backup_url is not None:
            return self.backup_url
        return _QUEUE_BACKUP_URL if self.base_url.rstrip("/") == _QUEUE_URL else None
