"""Loads components that are run as graphs, from their builds, whatever runs them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from atelier_engines.diffusion import component_loading, networks
from atelier_engines.diffusion.builds.preparation import PreparedBuilds
from atelier_engines.diffusion.component_loader import (
    TEXT_ENCODERS,
    ComponentLoader,
    PlannedComponent,
)
from atelier_engines.diffusion.loras.replacing import ReplaceableWeights
from atelier_engines.diffusion.networks import Network
from atelier_engines.diffusion.runtimes.base import Autoencoder, ControlNet, Denoiser, TextEncoder
from atelier_engines.diffusion.runtimes.graphs.components import (
    GraphAutoencoder,
    GraphControlNet,
    GraphDenoiser,
    GraphTextEncoder,
    Run,
    create_shell,
)
from atelier_engines.diffusion.runtimes.graphs.stand_ins import StandInDenoiser, StandInTextEncoder
from atelier_engines.diffusion.weights.model_files import ComponentSource
from atelier_engines.local.components import ComponentSpec, EngineComponents
from atelier_engines.local.load_lock import LOAD_LOCK
from atelier_engines.local.model_cache import Resident


class GraphSession(Resident, Protocol):
    """Runs one graph; see Resident."""

    def run(self, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The outputs, in the graph's order.

        Args:
            inputs: by name; they are converted to the types of the specification.
        """


ComponentT = TypeVar("ComponentT")

SessionT = TypeVar("SessionT", bound=GraphSession)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphLoader(ABC, Generic[SessionT]):
    """See ComponentLoader."""

    components: EngineComponents
    """Where they are acquired."""
    builds: PreparedBuilds
    """The builds of all networks that it is asked for."""
    with_residuals: bool
    """Whether the denoiser takes what ControlNets add."""
    changed_by_loras: bool
    """Whether LoRAs may change denoiser and text encoders."""
    dtype: torch.dtype
    """The type that all but the autoencoder compute in."""
    vae_dtype: torch.dtype
    """The type that the autoencoder computes in."""
    stand_in: ComponentLoader | None = None
    """Loads what runs while LoRAs are active, where their weights cannot be replaced; None where they can."""

    @abstractmethod
    def specify(
        self, network: Network, *, runs_every_step: bool = False, exclusive: bool = False
    ) -> ComponentSpec[SessionT]:
        """What the session of a network needs of the model cache.

        Args:
            network: one that is built.
            runs_every_step: see ComponentSpec.
            exclusive: see ComponentSpec.
        """

    @abstractmethod
    def replaceable(
        self, session: SessionT, kind: type[torch.nn.Module], config: Mapping[str, Any]
    ) -> ReplaceableWeights | None:
        """The weights of a network of that class and configuration, which LoRAs replace; None if they cannot."""

    def plan_denoiser(self, source: ComponentSource) -> PlannedComponent[Denoiser]:
        """See ComponentLoader.plan_denoiser."""
        network = networks.denoiser(source, self.dtype, with_residuals=self.with_residuals)
        config = component_loading.read_config(UNet2DConditionModel, source)
        spec = self.specify(network, runs_every_step=True, exclusive=self.changed_by_loras)

        def acquire() -> Denoiser:
            changed = self._acquire_changed(spec, UNet2DConditionModel, config)
            return GraphDenoiser(network.graph, *changed)

        planned = PlannedComponent(specs=(spec,), acquire=acquire)
        if self.stand_in is None or not self.changed_by_loras:
            return planned
        return _join(planned, self.stand_in.plan_denoiser(source), StandInDenoiser)

    def plan_autoencoder(self, source: ComponentSource) -> PlannedComponent[Autoencoder]:
        """See ComponentLoader.plan_autoencoder."""
        config = component_loading.read_config(AutoencoderKL, source)
        halves = networks.autoencoder(source, self.vae_dtype)
        specs = tuple(map(self.specify, halves))

        def acquire() -> Autoencoder:
            encoder, decoder = (
                (half.graph, self._acquire(spec)) for half, spec in zip(halves, specs, strict=True)
            )
            return GraphAutoencoder(create_shell(config), encoder=encoder, decoder=decoder)

        return PlannedComponent(specs=specs, acquire=acquire)

    def plan_text_encoder(
        self, name: str, source: ComponentSource
    ) -> PlannedComponent[TextEncoder]:
        """See ComponentLoader.plan_text_encoder."""
        network = networks.text_encoder(name, source, self.dtype)
        kind = TEXT_ENCODERS[name]
        config = component_loading.read_config(kind, source)
        spec = self.specify(network, exclusive=self.changed_by_loras)

        def acquire() -> TextEncoder:
            return GraphTextEncoder(network.graph, *self._acquire_changed(spec, kind, config))

        planned = PlannedComponent(specs=(spec,), acquire=acquire)
        if self.stand_in is None or not self.changed_by_loras:
            return planned
        return _join(planned, self.stand_in.plan_text_encoder(name, source), StandInTextEncoder)

    def plan_controlnet(
        self, name: str, path: Path, unet_config: Mapping[str, Any]
    ) -> PlannedComponent[ControlNet]:
        """See ComponentLoader.plan_controlnet."""
        network = networks.controlnet(name, path, unet_config, self.dtype)
        spec = self.specify(network, runs_every_step=True)
        return PlannedComponent(
            specs=(spec,), acquire=lambda: GraphControlNet(network.graph, self._acquire(spec))
        )

    def _acquire(self, spec: ComponentSpec[SessionT]) -> Run:
        lease = self.components.acquire(spec)
        session = lease.resident
        return lambda inputs: lease.run(lambda: session.run(inputs))

    def _acquire_changed(
        self,
        spec: ComponentSpec[SessionT],
        kind: type[torch.nn.Module],
        config: Mapping[str, Any],
    ) -> tuple[Run, ReplaceableWeights | None]:
        """What runs a network of that class and configuration, and its weights."""
        lease = self.components.acquire(spec)
        session = lease.resident
        weights = self.replaceable(session, kind, config)
        return lambda inputs: lease.run(lambda: session.run(inputs)), weights


def _join(
    plain: PlannedComponent[ComponentT],
    changed: PlannedComponent[ComponentT],
    create: Callable[[ComponentT, ComponentT], ComponentT],
) -> PlannedComponent[ComponentT]:
    """Two components as the one that `create` makes of them."""
    return PlannedComponent(
        specs=(*plain.specs, *changed.specs),
        acquire=lambda: create(plain.acquire(), changed.acquire()),
    )


def create_empty(kind: type[torch.nn.Module], config: Mapping[str, Any]) -> torch.nn.Module:
    """A network of that class and configuration, without numbers in its weights."""
    with LOAD_LOCK:
        return component_loading.create_empty(kind, config)
