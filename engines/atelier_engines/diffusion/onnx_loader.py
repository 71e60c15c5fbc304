"""Loads the components that ONNX Runtime runs: exported with torch at the first start, then from the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]  # accelerate has no types
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextModelWithProjection

from atelier_engines.diffusion import component_loading
from atelier_engines.diffusion.component_loader import TEXT_ENCODERS, PlannedComponent
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.controls import config_controls, controlnet_loading
from atelier_engines.diffusion.runtimes.base import Autoencoder, ControlNet, Denoiser, TextEncoder
from atelier_engines.diffusion.runtimes.graphs.autoencoder import describe_decoder, describe_encoder
from atelier_engines.diffusion.runtimes.graphs.denoiser import (
    describe_controlnet,
    describe_denoiser,
)
from atelier_engines.diffusion.runtimes.graphs.graph import Graph
from atelier_engines.diffusion.runtimes.graphs.store import GraphStore
from atelier_engines.diffusion.runtimes.graphs.text_encoder import describe_text_encoder
from atelier_engines.diffusion.runtimes.onnx.components import (
    OnnxAutoencoder,
    OnnxControlNet,
    OnnxDenoiser,
    OnnxTextEncoder,
    Run,
)
from atelier_engines.diffusion.runtimes.onnx.session import OnnxSession, require_installed
from atelier_engines.diffusion.weights import diffusers_layout
from atelier_engines.diffusion.weights.model_files import (
    ComponentSource,
    MergedComponent,
    SingleFileComponent,
    weight_files,
)
from atelier_engines.errors import EngineUnavailableError
from atelier_engines.local.components import ComponentSpec, EngineComponents
from atelier_engines.local.weights import safetensors_header

DEFAULT_DIRECTORY = "~/.cache/atelier/onnx"

_CPU = torch.device("cpu")
_DTYPE = torch.float32


def create(config: DiffusionConfig, components: EngineComponents) -> OnnxLoader:
    """The loader of an engine.

    Raises:
        EngineUnavailableError: the engine is not on the CPU, or a package is absent.
    """
    if components.device.type != "cpu":
        raise EngineUnavailableError(
            f"the runtime onnx runs on the CPU, not on {components.device}: set device to cpu, or runtime to torch"
        )
    require_installed()
    return OnnxLoader(
        components=components,
        store=GraphStore(directory=config.onnx_directory or Path(DEFAULT_DIRECTORY).expanduser()),
        with_residuals=bool(config_controls.networks(config)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxLoader:
    """See ComponentLoader."""

    components: EngineComponents
    """Where they are acquired."""
    store: GraphStore
    """Where exported graphs are kept."""
    with_residuals: bool
    """Whether the denoiser takes what ControlNets add."""

    def plan_denoiser(self, source: ComponentSource) -> PlannedComponent[Denoiser]:
        """See ComponentLoader.plan_denoiser."""
        config = component_loading.read_config(UNet2DConditionModel, source)
        graph = describe_denoiser(config, _DTYPE, with_residuals=self.with_residuals)
        spec = self._specify(
            "unet", graph, source, config, UNet2DConditionModel, runs_every_step=True
        )
        return PlannedComponent(
            specs=(spec,), acquire=lambda: OnnxDenoiser(graph, self._acquire(spec))
        )

    def plan_autoencoder(self, source: ComponentSource) -> PlannedComponent[Autoencoder]:
        """See ComponentLoader.plan_autoencoder."""
        config = component_loading.read_config(AutoencoderKL, source)
        encoder = describe_encoder(config, _DTYPE)
        decoder = describe_decoder(config, _DTYPE)
        specs = [
            self._specify("vae", graph, source, config, AutoencoderKL)
            for graph in (encoder, decoder)
        ]

        def acquire() -> Autoencoder:
            runs = [self._acquire(spec) for spec in specs]
            return OnnxAutoencoder(
                _create_shell(config), encoder=(encoder, runs[0]), decoder=(decoder, runs[1])
            )

        return PlannedComponent(specs=tuple(specs), acquire=acquire)

    def plan_text_encoder(
        self, name: str, source: ComponentSource
    ) -> PlannedComponent[TextEncoder]:
        """See ComponentLoader.plan_text_encoder."""
        kind = TEXT_ENCODERS[name]
        config = component_loading.read_config(kind, source)
        projects = issubclass(kind, CLIPTextModelWithProjection)
        graph = describe_text_encoder(name, config, _DTYPE, projects=projects)
        spec = self._specify(name, graph, source, config, kind)
        return PlannedComponent(
            specs=(spec,), acquire=lambda: OnnxTextEncoder(graph, self._acquire(spec))
        )

    def plan_controlnet(
        self, name: str, path: Path, unet_config: Mapping[str, Any]
    ) -> PlannedComponent[ControlNet]:
        """See ComponentLoader.plan_controlnet."""
        graph = describe_controlnet(unet_config, _DTYPE)
        files = controlnet_loading.list_files(path)
        own = diffusers_layout.read_object(path / "config.json") if path.is_dir() else {}
        spec = self._build_spec(
            f"the ControlNet {name}",
            graph,
            files=files,
            settings={"unet": unet_config, "own": own},
            size=safetensors_header.estimate_bytes(files, _DTYPE),
            load=partial(controlnet_loading.load, path, unet_config, device=_CPU, dtype=_DTYPE),
            runs_every_step=True,
        )
        return PlannedComponent(
            specs=(spec,), acquire=lambda: OnnxControlNet(graph, self._acquire(spec))
        )

    def _acquire(self, spec: ComponentSpec[OnnxSession]) -> Run:
        lease = self.components.acquire(spec)
        session = lease.resident
        return lambda inputs: lease.run(lambda: session.run(inputs))

    def _specify(
        self,
        name: str,
        graph: Graph,
        source: ComponentSource,
        config: Mapping[str, Any],
        kind: type[torch.nn.Module],
        *,
        runs_every_step: bool = False,
    ) -> ComponentSpec[OnnxSession]:
        base = source.base if isinstance(source, MergedComponent) else source
        prefix = base.prefix if isinstance(base, SingleFileComponent) else ""
        files = weight_files(base)
        return self._build_spec(
            name,
            graph,
            files=weight_files(source),
            settings=config,
            size=safetensors_header.estimate_bytes(files, _DTYPE, prefix=prefix),
            load=partial(component_loading.load, kind, source, _DTYPE, _CPU),
            runs_every_step=runs_every_step,
        )

    def _build_spec(
        self,
        name: str,
        graph: Graph,
        *,
        files: Sequence[Path],
        settings: Mapping[str, object],
        size: int,
        load: Callable[[], torch.nn.Module],
        runs_every_step: bool,
    ) -> ComponentSpec[OnnxSession]:
        provide = partial(self.store.provide, graph, files=files, settings=settings, load=load)
        return ComponentSpec(
            name=name,
            kind=OnnxSession.__name__,
            files=tuple(files),
            size=size,
            dtype=_DTYPE,
            form=graph.name,
            load=partial(OnnxSession, graph, provide),
            runs_every_step=runs_every_step,
        )


def _create_shell(config: Mapping[str, Any]) -> AutoencoderKL:
    """See OnnxAutoencoder; the graphs contain the convolutions that it is without."""
    without = {"use_quant_conv": False, "use_post_quant_conv": False}
    with init_empty_weights():
        made: AutoencoderKL = AutoencoderKL.from_config({**config, **without})
    return made.eval()
