"""What can be set about a fal engine."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from atelier_engines.config import Section
from atelier_engines.task import SafetyMode
from atelier_engines.vendors.comfy_config import WorkflowSetConfig
from atelier_engines.vendors.fal.models import MODELS
from atelier_engines.vendors.price import PriceConfig

_ENDPOINT = r"^[\w.-]+(/[\w.-]+)+$"


class FalComfyConfig(WorkflowSetConfig):
    """ComfyUI workflows, run by an app of one's own at fal."""

    endpoint: str = Field(
        pattern=_ENDPOINT,
        description="The app's endpoint, such as me/comfy/generate; docs/engines/fal.md says what it is sent.",
    )


class FalConfig(Section):
    """A fal engine's section in the configuration file."""

    api_key: SecretStr = Field(min_length=1, description="Key of the account: ${FAL_KEY}.")
    base_url: str = Field(
        default="https://queue.fal.run", pattern="^https?://", description="Where the queue is."
    )
    model: str = Field(
        default="fal-ai/fast-lightning-sdxl",
        description="Model that draws: " + ", ".join(MODELS) + ". Unused with `comfy`.",
    )
    steps: int | None = Field(
        default=None,
        description="Fixes fal-ai/fast-lightning-sdxl to 1, 2, 4 or 8 steps; 4 or 8 by the task when null.",
    )
    loras: dict[str, str] = Field(
        default_factory=dict,
        description="Addresses of LoRA files by the names to ask for them by; for fal-ai/fast-sdxl.",
    )
    comfy: FalComfyConfig | None = Field(
        default=None, description="ComfyUI workflows instead of a model."
    )
    safety: SafetyMode = Field(
        default=SafetyMode.BLOCK,
        description="What to do about pictures that the service flags: block; flag, which delivers "
        "the black picture that it makes of them; off, which has nothing checked. Callers may be stricter.",
    )
    pictures: Literal["inline", "hosted"] = Field(
        default="inline",
        description="How pictures are sent: inside the request, or put onto fal's storage first, "
        "where whoever knows the address can see them.",
    )
    rest_url: str = Field(
        default="https://rest.fal.ai",
        pattern="^https?://",
        description="Where leave to store pictures is given.",
    )
    storage_url: str = Field(
        default="https://v3.fal.media",
        pattern="^https?://",
        description="Where pictures are stored.",
    )
    output_format: Literal["png", "jpeg"] = Field(
        default="png", description="File format of the pictures; not for `comfy`."
    )
    expire_seconds: int | None = Field(
        default=3600,
        ge=60,
        description="After how long the service may delete the pictures made, each fetched at once; "
        "its own choice when null.",
    )
    price: PriceConfig | None = Field(
        default=None, description="Price to show and to count; free when null."
    )
    max_images: int = Field(
        default=4, ge=1, le=16, description="Most pictures in one task; each is one paid job."
    )
    concurrency: int = Field(
        default=2,
        ge=1,
        le=256,
        description="Tasks handed to the service at once; an account begins with 2, and more wait there.",
    )
    poll_seconds: float = Field(
        default=0.5, gt=0, description="First pause between two polls; it grows to four times that."
    )
    deadline_seconds: float = Field(
        default=300.0,
        gt=0,
        description="Longest that a task may take from its acceptance, waiting at the service included.",
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.comfy is not None:
            if self.loras or self.steps is not None:
                raise ValueError(
                    "with comfy, LoRAs belong into comfy.loras, and steps into the task"
                )
            return self
        facts = MODELS.get(self.model)
        if facts is None:
            raise ValueError(f"model must be one of {', '.join(MODELS)}")
        if self.loras and not facts.max_loras:
            raise ValueError(f"{self.model} takes no loras")
        if self.steps is not None and self.steps not in facts.fixed_steps:
            choice = ", ".join(map(str, facts.fixed_steps)) or "left out"
            raise ValueError(f"steps of {self.model} must be {choice}")
        return self
