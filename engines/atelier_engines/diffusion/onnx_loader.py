"""Loads the components that ONNX Runtime runs, from their builds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from atelier_engines.diffusion import networks
from atelier_engines.diffusion.builds import preparation
from atelier_engines.diffusion.builds.onnx_builds import DTYPE, OnnxBuilder
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.controls import config_controls
from atelier_engines.diffusion.graph_loader import GraphLoader, create_empty
from atelier_engines.diffusion.loras import config_loras
from atelier_engines.diffusion.loras.replacing import ReplaceableWeights
from atelier_engines.diffusion.networks import Network
from atelier_engines.diffusion.runtimes.onnx.lora_weights import OnnxWeights
from atelier_engines.diffusion.runtimes.onnx.opening import require_installed
from atelier_engines.diffusion.runtimes.onnx.session import OnnxSession
from atelier_engines.diffusion.weights.model_files import ModelFiles
from atelier_engines.errors import EngineUnavailableError
from atelier_engines.local.builds.store import BuildStore, find_directory
from atelier_engines.local.components import ComponentSpec, EngineComponents


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
        dtype=DTYPE,
        vae_dtype=DTYPE,
        # Tasks that run at once alternate step by step, each with its own LoRAs.
        kept_sets=config.concurrency,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxLoader(GraphLoader[OnnxSession]):
    """See GraphLoader."""

    kept_sets: int
    """See OnnxSession."""

    def specify(
        self, network: Network, *, runs_every_step: bool = False, exclusive: bool = False
    ) -> ComponentSpec[OnnxSession]:
        """See GraphLoader.specify."""
        held = self.builds.find(network)
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
                create_empty=network.create_empty,
            ),
            runs_every_step=runs_every_step,
            exclusive=exclusive,
        )

    def replaceable(
        self, session: OnnxSession, kind: type[torch.nn.Module], config: Mapping[str, Any]
    ) -> ReplaceableWeights | None:
        """See GraphLoader.replaceable."""
        return OnnxWeights(session, partial(create_empty, kind, config))
