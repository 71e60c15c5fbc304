"""Denoiser and autoencoder of an audio model, and what runs them: torch, or ONNX Runtime from their builds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck

from atelier_engines.audio_diffusion.config import AudioModelConfig
from atelier_engines.audio_diffusion.oobleck import OobleckCodec, Run, TorchNetwork
from atelier_engines.diffusion.builds import preparation
from atelier_engines.diffusion.builds.onnx_builds import DTYPE, OnnxBuilder
from atelier_engines.diffusion.builds.preparation import PreparedBuilds
from atelier_engines.diffusion.networks import Network
from atelier_engines.diffusion.runtimes.graphs.graph import Graph
from atelier_engines.diffusion.runtimes.onnx.opening import require_installed
from atelier_engines.diffusion.runtimes.onnx.session import OnnxSession
from atelier_engines.diffusion.runtimes_config import ComponentName
from atelier_engines.local.builds.store import BuildStore, find_directory
from atelier_engines.local.components import ComponentSpec, EngineComponents
from atelier_engines.local.torch_module import TorchModule

AnySpec: TypeAlias = "ComponentSpec[Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioNetworks:
    """The networks of a model that are run for each clip."""

    denoiser: ComponentSpec[TorchModule[Any]]
    """The denoiser as a torch module."""
    denoiser_graph: Graph
    """Its specification."""
    denoiser_settings: Mapping[str, object]
    """Its configuration."""
    autoencoder: ComponentSpec[TorchModule[AutoencoderOobleck]]
    """The autoencoder as a torch module."""
    decoder_graph: Graph
    """The specification of its decoder."""
    autoencoder_settings: Mapping[str, object]
    """Its configuration."""

    @property
    def denoiser_network(self) -> Network:
        """The denoiser as it is exported."""
        return _describe(
            self.denoiser, "denoiser", self.denoiser_graph, self.denoiser_settings, "denoiser"
        )

    @property
    def decoder_network(self) -> Network:
        """The decoder as it is exported."""
        return _describe(
            self.autoencoder,
            "decoder",
            self.decoder_graph,
            self.autoencoder_settings,
            "autoencoder",
        )


def _describe(
    spec: ComponentSpec[TorchModule[Any]],
    name: str,
    graph: Graph,
    settings: Mapping[str, object],
    component: ComponentName,
) -> Network:
    return Network(
        name=name,
        component=component,
        graph=graph,
        dtype=DTYPE,
        weights=spec.files,
        settings=settings,
        size=spec.size,
        load=lambda: _load_module(spec),
    )


def _load_module(spec: ComponentSpec[TorchModule[Any]]) -> torch.nn.Module:
    module: torch.nn.Module = spec.load().module
    return module


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedNetworks:
    """What runs the networks."""

    denoise: Run
    """Runs the denoiser."""
    codec: OobleckCodec
    """Runs the autoencoder."""


def create_builder(config: AudioModelConfig) -> OnnxBuilder:
    """What builds the networks of a configuration.

    Raises:
        EngineUnavailableError: a package is absent.
    """
    require_installed()
    return OnnxBuilder(store=BuildStore(directory=find_directory(config.builds_directory)))


def load(
    config: AudioModelConfig,
    components: EngineComponents,
    networks: AudioNetworks,
    others: Sequence[AnySpec],
    *,
    max_latents: int,
) -> LoadedNetworks:
    """The networks, ready to run as `runtime` says.

    Args:
        config: of the engine.
        components: where they are acquired.
        networks: those of the model.
        others: what else the engine will acquire; there must be memory for all of it.
        max_latents: most latents of a clip.

    Raises:
        OutOfMemoryError: there is not.
        EngineUnavailableError: a package is absent, or a build is and that is to fail.
        EngineError: a network cannot be built.
    """
    if config.runtime == "torch":
        components.require_memory([*others, networks.denoiser, networks.autoencoder])
        denoiser = components.acquire(networks.denoiser)
        codec = OobleckCodec(components.acquire(networks.autoencoder), max_latents=max_latents)
        return LoadedNetworks(denoise=TorchNetwork(networks.denoiser_graph, denoiser), codec=codec)
    pair = (networks.denoiser_network, networks.decoder_network)
    builds = preparation.prepare(create_builder(config), pair, config.on_missing_build)
    specs = [
        _specify(network, builds, runs_every_step=every)
        for network, every in zip(pair, (True, False), strict=True)
    ]
    components.require_memory([*others, networks.autoencoder, *specs])
    denoise, decode = (_run_by_onnx(components, spec) for spec in specs)
    codec = OobleckCodec(
        components.acquire(networks.autoencoder), max_latents=max_latents, decode=decode
    )
    return LoadedNetworks(denoise=denoise, codec=codec)


def _specify(
    network: Network, builds: PreparedBuilds, *, runs_every_step: bool
) -> ComponentSpec[OnnxSession]:
    held = builds.find(network)
    return ComponentSpec(
        name=network.name,
        kind=OnnxSession.__name__,
        files=network.files,
        size=network.size,
        dtype=DTYPE,
        form=network.graph.name,
        load=partial(OnnxSession, network.graph, held.require, keeps_memory=runs_every_step),
        runs_every_step=runs_every_step,
    )


def _run_by_onnx(components: EngineComponents, spec: ComponentSpec[OnnxSession]) -> Run:
    lease = components.acquire(spec)
    session = lease.resident

    def compute(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return lease.run(lambda: session.run(inputs)[0])

    return compute
