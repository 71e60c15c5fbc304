"""Loads the components that TensorRT or TensorRT for RTX runs, from their plans.

Written without a GPU at hand: no run of what it loads has been seen yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from atelier_engines.diffusion import networks, number_formats
from atelier_engines.diffusion.builds import preparation, tensorrt_builds
from atelier_engines.diffusion.builds.tensorrt_builds import TensorrtBuilder
from atelier_engines.diffusion.component_loader import ComponentLoader
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.controls import config_controls
from atelier_engines.diffusion.graph_loader import GraphLoader
from atelier_engines.diffusion.loras import config_loras
from atelier_engines.diffusion.networks import Network
from atelier_engines.diffusion.runtimes.tensorrt.library import require_cuda
from atelier_engines.diffusion.runtimes.tensorrt.session import TensorrtSession
from atelier_engines.diffusion.runtimes_config import ComponentName, LibraryName
from atelier_engines.diffusion.weights.model_files import ModelFiles
from atelier_engines.errors import EngineUnavailableError
from atelier_engines.local.builds.store import BuildStore, find_directory
from atelier_engines.local.components import ComponentSpec, EngineComponents


def create(
    config: DiffusionConfig,
    model: ModelFiles,
    components: EngineComponents,
    name: LibraryName,
    torch_loader: ComponentLoader,
) -> tuple[TensorrtLoader | None, Mapping[ComponentName, str]]:
    """The loader of an engine, and why some or all components cannot be run as configured.

    Args:
        config: of the engine.
        model: its files.
        components: where they are acquired.
        name: the library that runs them.
        torch_loader: loads what runs while LoRAs are active: plans have their weights in them.

    Raises:
        EngineUnavailableError: there is no CUDA device or no library, or a build is absent, and that is to fail.
        EngineError: a network cannot be built.
    """
    try:
        require_cuda(name)
        builder = tensorrt_builds.create(
            config, name, BuildStore(directory=find_directory(config.builds_directory))
        )
    except EngineUnavailableError as error:
        if config.on_missing_build not in ("fallback", "build_or_fallback"):
            raise
        found = config.runtimes.run_by(name)
        preparation.log_fallbacks(dict.fromkeys(found, str(error)))
        return None, dict.fromkeys(found, str(error))
    dtype = number_formats.choose_for_cards(config)
    vae_dtype = number_formats.choose_vae_dtype(config, model, dtype)
    listed = networks.list_networks(config, model, name, dtype, vae_dtype=vae_dtype)
    builds = preparation.prepare(builder, listed, config.on_missing_build or "build")
    loader = TensorrtLoader(
        components=components,
        builds=builds,
        builder=builder,
        with_residuals=bool(config_controls.networks(config)),
        changed_by_loras=bool(config_loras.names(config)),
        dtype=dtype,
        vae_dtype=vae_dtype,
        stand_in=torch_loader,
    )
    return loader, builds.missing


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorrtLoader(GraphLoader[TensorrtSession]):
    """See GraphLoader."""

    builder: TensorrtBuilder
    """What built the plans."""

    def specify(
        self, network: Network, *, runs_every_step: bool = False, exclusive: bool = False
    ) -> ComponentSpec[TensorrtSession]:
        """See GraphLoader.specify."""
        held = self.builds.find(network)
        return ComponentSpec(
            name=network.name,
            kind=TensorrtSession.__name__,
            files=network.files,
            size=held.build.size_bytes,
            dtype=network.dtype,
            form=f"{self.builder.runtime} {held.build.manifest.key.digest}",
            load=partial(
                TensorrtSession,
                self.builder.library,
                network.graph,
                held.require,
                accepted=self.builder.profiles_of(network),
                device=self.components.device,
            ),
            runs_every_step=runs_every_step,
            exclusive=exclusive,
        )

    def replaceable(
        self, session: TensorrtSession, kind: type[torch.nn.Module], config: Mapping[str, Any]
    ) -> None:
        """See GraphLoader.replaceable: plans have their weights in them."""
        del session, kind, config
