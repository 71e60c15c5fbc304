"""The keys of a diffusion engine's section that say what runs its components."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from atelier_engines.config import Section

RuntimeName = Literal["torch", "onnx"]


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
    def can_apply_loras(self) -> bool:
        """Whether all components that LoRAs change are run by one that applies them."""
        return self.denoiser == "torch" and self.text_encoders == "torch"


def same_for_all(name: RuntimeName) -> ComponentRuntimes:
    """One runtime for every component."""
    return ComponentRuntimes(text_encoders=name, denoiser=name, controlnets=name, autoencoder=name)
