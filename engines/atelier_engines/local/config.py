"""The settings of every engine that runs a model on this machine."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from atelier_engines.local.models_directory import ModelsDirectory

_DEVICE = r"^(auto|cpu|cuda(:\d{1,3})?)$"

Precision = Literal["auto", "float32", "bfloat16", "float16"]


class LocalModelConfig(ModelsDirectory):
    """Where a model runs, in which number format, and how much memory it may take."""

    device: str = Field(
        default="auto",
        pattern=_DEVICE,
        description="`cpu`, `cuda`, `cuda:1` …; `auto` takes the first CUDA device, else the CPU.",
    )
    devices: tuple[Annotated[str, Field(pattern=_DEVICE)], ...] = Field(
        default=(),
        max_length=64,
        description="Several devices instead of one: the model is loaded on each, and a task runs on that with the "
        "fewest tasks. `concurrency` is that of each device.",
    )
    precision: Precision = Field(
        default="auto",
        description=(
            "The number format that the model computes in; `auto` is float32 on the CPU and "
            "float16 on CUDA. float16 on a CPU works but is very slow."
        ),
    )
    memory_budget: float | None = Field(
        default=None,
        gt=0,
        description=(
            "Most memory of the device that models may take, those of all engines together: "
            "up to 1 a fraction of it, above 1 bytes. The least recently used components are "
            "offloaded when others need memory. The setting holds for the device; of several "
            "engines the last one to start decides. Unset: 0.9 on CUDA, no limit on a CPU."
        ),
    )
    keep_loaded: bool = Field(
        default=False,
        description="Whether this engine's components are never offloaded from the device.",
    )
    download: bool = Field(
        default=True,
        description=(
            "Whether a hub id that is not in the local cache may be downloaded at the start. "
            "Off: the network is never used."
        ),
    )

    @model_validator(mode="after")
    def _one_way_to_name_devices(self) -> Self:
        if self.devices and self.device != "auto":
            raise ValueError("set device or devices, not both")
        return self

    def _require_cpu_and_float32(self) -> None:
        if any(device.startswith("cuda") for device in (self.device, *self.devices)):
            raise ValueError(
                "the runtime onnx runs on the CPU: set device to cpu, or runtime to torch"
            )
        if self.precision not in ("auto", "float32"):
            raise ValueError(
                f"the runtime onnx computes in float32: precision must be float32 or auto, not {self.precision}"
            )
