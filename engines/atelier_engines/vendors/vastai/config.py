"""What can be set about a vastai engine."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, model_validator

from atelier_engines.config import Section
from atelier_engines.forwarding.config import ForwardingConfig


class VastaiConfig(Section):
    """A vastai engine's section in the configuration file."""

    api_key: SecretStr = Field(min_length=1, description="Key of the account: ${VAST_API_KEY}.")
    base_url: str = Field(
        default="https://console.vast.ai", pattern="^https?://", description="Where the service is."
    )
    label: str = Field(
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Marks the machines of this engine. No other engine or server of the account may "
        "have the same: what bears it and is not wanted is destroyed.",
    )
    image: str = Field(
        default="", max_length=1024, description="Container image that runs `atelier serve`."
    )
    template: str = Field(
        default="", description="Hash of a template at the service, instead of an image."
    )
    args: tuple[str, ...] = Field(default=(), description="Arguments of the image's entry point.")
    env: dict[str, str] = Field(
        default_factory=dict, description="Environment of the container; the service can read it."
    )
    port: int = Field(
        default=50051, ge=1, le=65535, description="Where Atelier listens in the container."
    )
    disk_gb: float = Field(default=40, ge=8, description="Disk of the machine, in GB.")
    gpu_names: tuple[str, ...] = Field(
        default=(), description="GPUs to take, such as RTX 4090; any when empty."
    )
    min_gpu_ram_gb: float = Field(default=16, gt=0, description="Least memory of the GPU, in GB.")
    min_reliability: float = Field(
        default=0.98,
        ge=0,
        le=1,
        description="Least reliability of the host, as the service rates it.",
    )
    min_download_mbps: float = Field(
        default=200, ge=0, description="Least download speed of the host, in Mb/s."
    )
    min_cuda: float = Field(default=12.4, gt=0, description="Least CUDA version of its driver.")
    max_price_per_hour: float = Field(
        gt=0, allow_inf_nan=False, description="Most to pay, in US dollars an hour."
    )
    spending_cap: float = Field(
        gt=0,
        allow_inf_nan=False,
        description="Most to spend on rent in the life of this process, in US dollars. Then the "
        "machine is destroyed, and nothing more is rented.",
    )
    idle_seconds: float | None = Field(
        default=900,
        gt=0,
        description="A machine without work for so long is destroyed; never when null.",
    )
    keep_on_stop: bool = Field(
        default=False,
        description="Leave the machine, and its bill, running when the server stops; the next "
        "start takes it over.",
    )
    boot_seconds: float = Field(
        default=1200, gt=0, description="A machine that does not serve by then is replaced."
    )
    wait_seconds: float = Field(
        default=1800,
        ge=0,
        description="How long a task waits for a machine before it fails or falls back.",
    )
    sick_checks: int = Field(
        default=3, ge=1, description="So many failed checks in a row, and a machine is replaced."
    )
    poll_seconds: float = Field(
        default=10,
        gt=0,
        description="Time between two looks at a machine that starts, or at the offers.",
    )
    check_seconds: float = Field(
        default=15, gt=0, description="Time between two checks of a machine that serves."
    )
    concurrency: int = Field(default=1, ge=1, le=64, description="Tasks worked on at once.")
    worker: ForwardingConfig = Field(
        default_factory=ForwardingConfig,
        description="How to speak to the Atelier server on the machine.",
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if bool(self.image) == bool(self.template):
            raise ValueError("say either image or template")
        if self.worker.token is not None and not self.worker.tls:
            raise ValueError(
                "worker.token would go over the network unencrypted: say worker.tls: true"
            )
        return self
