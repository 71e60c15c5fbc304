"""What loads the components of a model, whatever runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from transformers import CLIPTextModel, CLIPTextModelWithProjection

from atelier_engines.diffusion.runtimes.base import Autoencoder, ControlNet, Denoiser, TextEncoder
from atelier_engines.diffusion.weights.model_files import ComponentSource
from atelier_engines.local.components import ComponentSpec

ComponentT_co = TypeVar("ComponentT_co", covariant=True)

TEXT_ENCODERS: Mapping[str, type[CLIPTextModel | CLIPTextModelWithProjection]] = {
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
}
"""Classes of the text encoders by their names in diffusers' layout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedComponent(Generic[ComponentT_co]):
    """A component that is not loaded yet."""

    specs: tuple[ComponentSpec[Any], ...]
    """What it needs of the model cache."""
    acquire: Callable[[], ComponentT_co]
    """Returns it, loaded or shared; raises OutOfMemoryError where there is no memory for it, and whatever loading
    raises."""


class ComponentLoader(Protocol):
    """Plans components for one engine; nothing is loaded before a plan is acquired."""

    def plan_denoiser(self, source: ComponentSource) -> PlannedComponent[Denoiser]:
        """The denoiser in these files."""

    def plan_autoencoder(self, source: ComponentSource) -> PlannedComponent[Autoencoder]:
        """The autoencoder in these files."""

    def plan_text_encoder(
        self, name: str, source: ComponentSource
    ) -> PlannedComponent[TextEncoder]:
        """The text encoder in these files; see TEXT_ENCODERS for names."""

    def plan_controlnet(
        self, name: str, path: Path, unet_config: Mapping[str, Any]
    ) -> PlannedComponent[ControlNet]:
        """The ControlNet in a directory or file, for a denoiser of that configuration.

        Raises:
            ModelMissingError: its files are absent or broken.
        """
