"""Loads the components that ONNX Runtime runs, from their builds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]  # accelerate has no types
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from atelier_engines.diffusion import component_loading, networks
from atelier_engines.diffusion.builds import preparation
from atelier_engines.diffusion.builds.onnx_builds import DTYPE, OnnxBuilder, identify
from atelier_engines.diffusion.builds.preparation import PreparedBuilds
from atelier_engines.diffusion.component_loader import TEXT_ENCODERS, PlannedComponent
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.controls import config_controls
from atelier_engines.diffusion.loras import config_loras
from atelier_engines.diffusion.networks import Network
from atelier_engines.diffusion.runtimes.base import Autoencoder, ControlNet, Denoiser, TextEncoder
from atelier_engines.diffusion.runtimes.onnx.components import (
    OnnxAutoencoder,
    OnnxControlNet,
    OnnxDenoiser,
    OnnxTextEncoder,
    Run,
)
from atelier_engines.diffusion.runtimes.onnx.lora_weights import OnnxWeights
from atelier_engines.diffusion.runtimes.onnx.opening import require_installed
from atelier_engines.diffusion.runtimes.onnx.session import OnnxSession
from atelier_engines.diffusion.weights.model_files import ComponentSource, ModelFiles
from atelier_engines.errors import EngineUnavailableError
from atelier_engines.local.builds.store import BuildStore, find_directory
from atelier_engines.local.components import ComponentSpec, EngineComponents
from atelier_engines.local.load_lock import LOAD_LOCK


def create(config: DiffusionConfig, model: ModelFiles, components: EngineComponents) -> OnnxLoader:
    """The loader of an engine, with the builds of all networks that it is configured to run.

    Raises:
        EngineUnavailableError: the engine is not on the CPU, a package is absent, or a build is and that is to fail.
        EngineError: a network cannot be built.
    """
    if components.device.type != "cpu":
        raise EngineUnavailableError(
            f"the runtime onnx runs on the CPU, not on {components.device}: set device to cpu, or runtime to torch"
        )
    require_installed()
    builder = OnnxBuilder(store=BuildStore(directory=find_directory(config.builds_directory)))
    found = networks.list_networks(config, model, "onnx", DTYPE)
    return OnnxLoader(
        components=components,
        builds=preparation.prepare(builder, found, config.on_missing_build or "build"),
        with_residuals=bool(config_controls.networks(config)),
        changed_by_loras=bool(config_loras.names(config)),
        # Tasks that run at once alternate step by step, each with its own LoRAs.
        kept_sets=config.concurrency,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxLoader:
    """See ComponentLoader."""

    components: EngineComponents
    """Where they are acquired."""
    builds: PreparedBuilds
    """The builds of all networks that it is asked for."""
    with_residuals: bool
    """Whether the denoiser takes what ControlNets add."""
    changed_by_loras: bool
    """Whether LoRAs may change denoiser and text encoders."""
    kept_sets: int
    """See OnnxSession."""

    def plan_denoiser(self, source: ComponentSource) -> PlannedComponent[Denoiser]:
        """See ComponentLoader.plan_denoiser."""
        network = networks.denoiser(source, DTYPE, with_residuals=self.with_residuals)
        config = component_loading.read_config(UNet2DConditionModel, source)
        spec = self._specify(network, runs_every_step=True, exclusive=self.changed_by_loras)

        def acquire() -> Denoiser:
            changed = self._acquire_changed(spec, UNet2DConditionModel, config)
            return OnnxDenoiser(network.graph, *changed)

        return PlannedComponent(specs=(spec,), acquire=acquire)

    def plan_autoencoder(self, source: ComponentSource) -> PlannedComponent[Autoencoder]:
        """See ComponentLoader.plan_autoencoder."""
        config = component_loading.read_config(AutoencoderKL, source)
        halves = networks.autoencoder(source, DTYPE)
        specs = tuple(map(self._specify, halves))

        def acquire() -> Autoencoder:
            encoder, decoder = (
                (half.graph, self._acquire(spec)) for half, spec in zip(halves, specs, strict=True)
            )
            return OnnxAutoencoder(_create_shell(config), encoder=encoder, decoder=decoder)

        return PlannedComponent(specs=specs, acquire=acquire)

    def plan_text_encoder(
        self, name: str, source: ComponentSource
    ) -> PlannedComponent[TextEncoder]:
        """See ComponentLoader.plan_text_encoder."""
        network = networks.text_encoder(name, source, DTYPE)
        kind = TEXT_ENCODERS[name]
        config = component_loading.read_config(kind, source)
        spec = self._specify(network, exclusive=self.changed_by_loras)

        def acquire() -> TextEncoder:
            return OnnxTextEncoder(network.graph, *self._acquire_changed(spec, kind, config))

        return PlannedComponent(specs=(spec,), acquire=acquire)

    def plan_controlnet(
        self, name: str, path: Path, unet_config: Mapping[str, Any]
    ) -> PlannedComponent[ControlNet]:
        """See ComponentLoader.plan_controlnet."""
        network = networks.controlnet(name, path, unet_config, DTYPE)
        spec = self._specify(network, runs_every_step=True)
        return PlannedComponent(
            specs=(spec,), acquire=lambda: OnnxControlNet(network.graph, self._acquire(spec))
        )

    def _acquire(self, spec: ComponentSpec[OnnxSession]) -> Run:
        lease = self.components.acquire(spec)
        session = lease.resident
        return lambda inputs: lease.run(lambda: session.run(inputs))

    def _acquire_changed(
        self,
        spec: ComponentSpec[OnnxSession],
        kind: type[torch.nn.Module],
        config: Mapping[str, Any],
    ) -> tuple[Run, OnnxWeights]:
        """What runs a network of that class and configuration, and its weights, which LoRAs replace."""
        lease = self.components.acquire(spec)
        session = lease.resident
        weights = OnnxWeights(session, partial(_create_empty, kind, config))
        return lambda inputs: lease.run(lambda: session.run(inputs)), weights

    def _specify(
        self, network: Network, *, runs_every_step: bool = False, exclusive: bool = False
    ) -> ComponentSpec[OnnxSession]:
        held = self.builds.held[identify(network).digest]
        return ComponentSpec(
            name=network.name,
            kind=OnnxSession.__name__,
            files=network.files,
            size=network.size,
            dtype=DTYPE,
            form=network.graph.name,
            load=partial(
                OnnxSession,
                network.graph,
                held.require,
                kept_sets=self.kept_sets,
                keeps_memory=runs_every_step,
            ),
            runs_every_step=runs_every_step,
            exclusive=exclusive,
        )


def _create_empty(kind: type[torch.nn.Module], config: Mapping[str, Any]) -> torch.nn.Module:
    with LOAD_LOCK:
        return component_loading.create_empty(kind, config)


def _create_shell(config: Mapping[str, Any]) -> AutoencoderKL:
    """See OnnxAutoencoder; the graphs contain the convolutions that it is without."""
    without = {"use_quant_conv": False, "use_post_quant_conv": False}
    with init_empty_weights():
        made: AutoencoderKL = AutoencoderKL.from_config({**config, **without})
    return made.eval()
