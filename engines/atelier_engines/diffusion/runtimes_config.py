"""The keys of a diffusion engine's section that say what runs its components."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field

from atelier_engines.config import Section

LibraryName = Literal["tensorrt", "tensorrt_rtx"]

RuntimeName = Literal["torch", "onnx"] | LibraryName

LIBRARY_NAMES: tuple[LibraryName, ...] = ("tensorrt", "tensorrt_rtx")
"""The runtimes whose networks are compiled to plans for CUDA devices."""

INSTALL: Mapping[LibraryName, str] = {
    "tensorrt": "pip install 'atelier-engines[tensorrt]', and atelier build --fetch-tensorrt REPOSITORY",
    "tensorrt_rtx": "pip install 'atelier-engines[tensorrt-rtx]'",
}
"""What installs each of them."""

BINDINGS: Mapping[LibraryName, str] = {
    "tensorrt": "tensorrt_bindings",
    "tensorrt_rtx": "tensorrt_rtx_bindings",
}
"""The Python module that each of them is called through."""

PLAN_ROWS = 8
"""The most rows of one run where the configuration does not say: a plan is built for a range of them."""

ComponentName = Literal["text_encoders", "denoiser", "controlnets", "autoencoder"]
"""The components that each may have a runtime of their own: the keys of ComponentRuntimes."""

OnMissingBuild = Literal["build", "build_or_fallback", "fallback", "fail"]
"""What an engine does whose builds are absent or refused."""


class CompileBucket(Section):
    """One shape that blocks are compiled for."""

    width: int = Field(ge=64, multiple_of=8, description="Width in pixels.")
    height: int = Field(ge=64, multiple_of=8, description="Height in pixels.")
    rows: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Rows of one run of the denoiser: an image has one, with guidance two.",
    )


class ComponentRuntimes(Section):
    """What runs each component of a model."""

    text_encoders: RuntimeName = Field(default="torch", description="Runs all text encoders.")
    denoiser: RuntimeName = Field(default="torch", description="Runs the denoiser.")
    controlnets: RuntimeName = Field(default="torch", description="Runs all ControlNets.")
    autoencoder: RuntimeName = Field(
        default="torch", description="Runs the autoencoder: its encoder and its decoder."
    )

    @property
    def names(self) -> frozenset[RuntimeName]:
        """The runtimes that are used."""
        return frozenset((self.text_encoders, self.denoiser, self.controlnets, self.autoencoder))

    @property
    def by_component(self) -> Mapping[ComponentName, RuntimeName]:
        """What runs each component, by name."""
        return {
            "text_encoders": self.text_encoders,
            "denoiser": self.denoiser,
            "controlnets": self.controlnets,
            "autoencoder": self.autoencoder,
        }

    def run_by(self, runtime: RuntimeName) -> tuple[ComponentName, ...]:
        """The components that a runtime runs."""
        return tuple(name for name, one in self.by_component.items() if one == runtime)

    def with_torch_for(self, components: Iterable[ComponentName]) -> ComponentRuntimes:
        """The same, with torch for these components."""
        return self.model_copy(update=dict.fromkeys(components, "torch"))


def same_for_all(name: RuntimeName) -> ComponentRuntimes:
    """One runtime for every component."""
    return ComponentRuntimes(text_encoders=name, denoiser=name, controlnets=name, autoencoder=name)
