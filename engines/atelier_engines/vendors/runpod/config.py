"""What can be set about a runpod engine."""

from __future__ import annotations

from pydantic import Field, SecretStr

from atelier_engines.vendors.comfy_config import WorkflowSetConfig
from atelier_engines.vendors.price import PriceConfig


class RunpodConfig(WorkflowSetConfig):
    """A runpod engine's section in the configuration file."""

    api_key: SecretStr = Field(min_length=1, description="Key of the account: ${RUNPOD_API_KEY}.")
    endpoint: str = Field(
        pattern=r"^[\w-]+$", description="Id of a serverless endpoint that runs worker-comfyui."
    )
    base_url: str = Field(
        default="https://api.runpod.ai/v2",
        pattern="^https?://",
        description="Where the service is.",
    )
    price: PriceConfig | None = Field(
        default=None, description="Price to show and to count; free when null."
    )
    max_images: int = Field(
        default=4, ge=1, le=16, description="Most pictures in one task; each is one paid job."
    )
    concurrency: int = Field(
        default=3,
        ge=1,
        le=256,
        description="Tasks handed to the endpoint at once; its most workers are a good number.",
    )
    poll_seconds: float = Field(
        default=1.0, gt=0, description="First pause between two polls; it grows to five times that."
    )
    deadline_seconds: float = Field(
        default=900.0,
        gt=0,
        description="Longest that a task may take from its acceptance, the start of a worker included.",
    )
