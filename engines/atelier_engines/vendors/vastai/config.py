"""Settings of a vastai engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from atelier_engines.config import MAX_KEEP_SECONDS, MAX_PAUSE_SECONDS, MAX_WAIT_SECONDS
from atelier_engines.forwarding.config import ForwardingConfig
from atelier_engines.vendors.config import AccountConfig, ApiKey, BaseUrl


class VastaiConfig(AccountConfig):
    """A vastai engine's section in the configuration file."""

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "idle_seconds": "idle_timeout_seconds",
        "boot_seconds": "startup_timeout_seconds",
        "wait_seconds": "acquire_timeout_seconds",
        "sick_checks": "unhealthy_threshold",
    }

    api_key: ApiKey = Field(description="API key of the account: ${VAST_API_KEY}.")
    base_url: BaseUrl = "https://console.vast.ai"
    label: str = Field(
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Label of this engine's instances. It must be unique in the account: every other "
        "instance with this label is destroyed.",
    )
    image: str = Field(
        default="", max_length=1024, description="Container image that runs `atelier serve`."
    )
    template: str = Field(
        default="", description="Hash of a template at the service, instead of an image."
    )
    args: tuple[str, ...] = Field(default=(), description="Arguments of the image's entry point.")
    env: dict[str, str] = Field(
        default_factory=dict,
        description="Environment variables of the container; the service can read them.",
    )
    port: int = Field(
        default=50051, ge=1, le=65535, description="Port of Atelier in the container."
    )
    disk_gb: float = Field(default=40, ge=8, description="Disk of the instance, in GB.")
    gpu_names: tuple[str, ...] = Field(
        default=(), description="Accepted GPUs, such as RTX 4090 or RTX_4090; any if empty."
    )
    min_gpu_ram_gb: float = Field(default=16, gt=0, description="Minimum GPU memory, in GB.")
    min_reliability: float = Field(
        default=0.98,
        ge=0,
        le=1,
        description="Minimum reliability of the host, as rated by the service.",
    )
    min_download_mbps: float = Field(
        default=200, ge=0, description="Minimum download speed of the host, in Mb/s."
    )
    min_cuda: float = Field(
        default=12.4, gt=0, description="Minimum CUDA version that the host's driver supports."
    )
    max_price_per_hour: float = Field(
        gt=0, allow_inf_nan=False, description="Maximum price, in US dollars per hour."
    )
    spending_cap: float = Field(
        gt=0,
        allow_inf_nan=False,
        description="Maximum rent in the lifetime of this process, in US dollars. When it is reached "
        "the instance is destroyed, and no other is rented.",
    )
    idle_timeout_seconds: float | None = Field(
        default=900,
        gt=0,
        le=MAX_WAIT_SECONDS,
        description="An instance is destroyed after this time without tasks; never if null.",
    )
    keep_on_stop: bool = Field(
        default=False,
        description="Keep the instance, and its costs, when the server stops; the next start uses it again.",
    )
    startup_timeout_seconds: float = Field(
        default=1200,
        gt=0,
        le=MAX_WAIT_SECONDS,
        description="An instance whose Atelier is not ready after this time is replaced.",
    )
    acquire_timeout_seconds: float = Field(
        default=1800,
        ge=0,
        le=MAX_WAIT_SECONDS,
        description="Maximum time a task waits for an instance before it fails or falls back.",
    )
    unhealthy_threshold: int = Field(
        default=3,
        ge=1,
        description="An instance is replaced after this many consecutive failed checks.",
    )
    exclusion_seconds: float = Field(
        default=7 * 86400,
        ge=0,
        le=MAX_KEEP_SECONDS,
        description="Time for which a host is not rented from again after its instance has failed.",
    )
    state_dir: Path | None = Field(
        default=None,
        description="Directory of the list of excluded hosts, for the next start. Unset: "
        "`engines/NAME` in `data_dir`.",
    )
    poll_seconds: float = Field(
        default=10,
        gt=0,
        le=MAX_PAUSE_SECONDS,
        description="Interval of polling an instance that starts, and of searching for offers.",
    )
    check_seconds: float = Field(
        default=15,
        gt=0,
        le=MAX_PAUSE_SECONDS,
        description="Interval of checking an instance that is ready.",
    )
    concurrency: int = Field(
        default=1, ge=1, le=64, description="Maximum tasks at once on one instance."
    )
    max_instances: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Maximum instances at once. Another is rented while tasks wait that the others have no place for, "
        "and destroyed when it is idle; `spending_cap` is that of all.",
    )
    generate_credentials: bool = Field(
        default=True,
        description="Make a certificate and a key for each instance, which nothing else trusts or accepts; the image "
        "must run `atelier serve` of this version or a later one. Not where worker.tls is set. false without "
        "worker.tls: everything is sent unencrypted, and whoever finds the instance can use it.",
    )
    worker: ForwardingConfig = Field(
        default_factory=ForwardingConfig,
        description="Connection to the Atelier server on the instance.",
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if bool(self.image) == bool(self.template):
            raise ValueError("set either image or template")
        if self.worker.token is not None and not self.worker.tls:
            raise ValueError("worker.token would be sent unencrypted: set worker.tls: true")
        return self
