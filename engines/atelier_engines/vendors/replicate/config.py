"""Settings of a replicate engine."""

from __future__ import annotations

from enum import Enum
from typing import Literal, Self

from pydantic import Field, JsonValue, SecretStr, model_validator

from atelier_engines.vendors.config import ApiKey, BaseUrl, JobsConfig

_MODEL = r"^[\w.-]+/[\w.-]+(:[0-9a-f]{64})?$"


class TaskField(Enum):
    """What an input of a model may take its value from."""

    PROMPT = "prompt"
    NEGATIVE_PROMPT = "negative_prompt"
    WIDTH = "width"
    HEIGHT = "height"
    ASPECT_RATIO = "aspect_ratio"
    SEED = "seed"
    STEPS = "steps"
    GUIDANCE = "guidance"
    SCHEDULER = "scheduler"
    INIT_IMAGE = "init_image"
    STRENGTH = "strength"
    MASK = "mask"
    NUM_IMAGES = "num_images"
    OUTPUT_FORMAT = "output_format"
    SAFETY_OFF = "safety_off"


class ReplicateConfig(JobsConfig):
    """A replicate engine's section in the configuration file."""

    api_key: ApiKey = Field(description="API token of the account: ${REPLICATE_API_TOKEN}.")
    base_url: BaseUrl = "https://api.replicate.com"
    model: str = Field(
        pattern=_MODEL,
        description="Model as owner/name, or one version of it as owner/name:version. Without a version, "
        "an official model is run as it is, and of another the version that is the latest at the start.",
    )
    family: str = Field(default="", description="Model family to show, such as sdxl or flux.")
    fields: dict[TaskField, str | None] = Field(
        default_factory=dict,
        description="Inputs of the model by what they take their value from, where the usual names do "
        "not fit; null for none. docs/engines/replicate.md lists the usual names.",
    )
    inputs: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Fixed values of further inputs of the model, checked against its schema at the start.",
    )
    secret_inputs: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="The same for inputs that take a key, such as that of another service.",
    )
    wait_seconds: int = Field(
        default=1,
        ge=0,
        le=60,
        description="Time that the service may hold the request for an image until it is done; 0 answers "
        "at once. If the server is killed in this time, the image is lost, and billed.",
    )
    image_transfer: Literal["inline", "hosted"] = Field(
        default="hosted",
        description="How images are sent: inside the request, or uploaded first; the service advises the "
        "latter for more than 256 KiB, and deletes them after a day.",
    )
    output_format: Literal["png", "jpg", "jpeg", "webp"] | None = Field(
        default=None,
        description="File format of the images, for a model that lets one choose; its best one when null.",
    )
    safety: Literal["block", "off"] = Field(
        default="block",
        description="block, or off, which disables the model's check, for a model that has such an input. "
        "Callers may be stricter.",
    )
    size_multiple: int = Field(
        default=8,
        ge=1,
        le=256,
        description="Width and height are multiples of this, where the model's schema does not say.",
    )
    max_side: int = Field(
        default=2048,
        ge=64,
        le=8192,
        description="Maximum width and height in pixels, where the model's schema does not say.",
    )

    @property
    def fixed_inputs(self) -> dict[str, JsonValue]:
        """All fixed values, with the secret ones."""
        secrets = {name: value.get_secret_value() for name, value in self.secret_inputs.items()}
        return {**self.inputs, **secrets}

    @model_validator(mode="after")
    def _require_distinct(self) -> Self:
        both = sorted(self.inputs.keys() & self.secret_inputs.keys())
        if both:
            raise ValueError(
                f"inputs and secret_inputs both set {', '.join(both)}; remove one of them"
            )
        return self
