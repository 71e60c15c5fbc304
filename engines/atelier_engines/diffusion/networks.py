"""The networks of a model as graphs: what each is exported from, the same for all that builds or runs one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextModelWithProjection

from atelier_engines.diffusion import component_loading
from atelier_engines.diffusion.component_loader import TEXT_ENCODERS
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.controls import config_controls, controlnet_loading
from atelier_engines.diffusion.runtimes.graphs.autoencoder import describe_decoder, describe_encoder
from atelier_engines.diffusion.runtimes.graphs.denoiser import (
    describe_controlnet,
    describe_denoiser,
)
from atelier_engines.diffusion.runtimes.graphs.graph import Graph
from atelier_engines.diffusion.runtimes.graphs.text_encoder import describe_text_encoder
from atelier_engines.diffusion.runtimes_config import ComponentName, RuntimeName
from atelier_engines.diffusion.weights import diffusers_layout
from atelier_engines.diffusion.weights.model_files import (
    ComponentSource,
    MergedComponent,
    ModelFiles,
    SingleFileComponent,
    weight_files,
)
from atelier_engines.local.load_lock import LOAD_LOCK
from atelier_engines.local.weights import safetensors_header

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One network of a model."""

    name: str
    """Its name in messages: unet, vae decoder, ControlNet canny."""
    component: ComponentName
    """What it is a part of, as `runtime` in the configuration names it."""
    graph: Graph
    """Its specification."""
    dtype: torch.dtype
    """The type that it computes in."""
    weights: tuple[Path, ...]
    """Its weight files."""
    settings: Mapping[str, object]
    """Its configuration."""
    size: int
    """Bytes that its weights take in memory."""
    load: Callable[[], torch.nn.Module]
    """Returns it, on the CPU and in evaluation mode; raises ModelMissingError where files are absent or broken."""
    create_empty: Callable[[], torch.nn.Module] | None = None
    """Returns it without numbers in its weights, in next to no memory and time; None where nobody asks for it."""
    loras: tuple[Path, ...] = ()
    """Files of the LoRAs that are merged into it."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that it is loaded from."""
        return (*self.weights, *self.loras)


def list_networks(
    config: DiffusionConfig,
    model: ModelFiles,
    runtime: RuntimeName,
    dtype: torch.dtype,
    *,
    vae_dtype: torch.dtype | None = None,
) -> Iterator[Network]:
    """All networks of a model that a runtime is configured to run, ControlNets included.

    Args:
        config: of the engine.
        model: its files.
        runtime: whose networks to list.
        dtype: the type that they compute in.
        vae_dtype: the type that the autoencoder computes in; None for the same.

    Raises:
        ModelMissingError: a file is absent or broken.
    """
    runtimes = config.runtimes
    unets = tuple(model.variants.values()) or (model.components["unet"],)
    if runtimes.text_encoders == runtime:
        for name in TEXT_ENCODERS:
            if name in model.components:
                yield text_encoder(name, model.components[name], dtype)
    if runtimes.denoiser == runtime:
        controlled = bool(config_controls.networks(config))
        for source in unets:
            yield denoiser(source, dtype, with_residuals=controlled)
    if runtimes.controlnets == runtime:
        unet_config = component_loading.read_config(UNet2DConditionModel, unets[0])
        for name, path in controlnet_loading.resolve_paths(config).items():
            yield controlnet(name, path, unet_config, dtype)
    if runtimes.autoencoder == runtime:
        yield from autoencoder(model.components["vae"], vae_dtype or dtype)


def denoiser(source: ComponentSource, dtype: torch.dtype, *, with_residuals: bool) -> Network:
    """A denoiser; see `describe_denoiser`."""
    config = component_loading.read_config(UNet2DConditionModel, source)
    graph = describe_denoiser(config, dtype, with_residuals=with_residuals)
    return _of_model("unet", "denoiser", graph, (UNet2DConditionModel, source, config), dtype)


def autoencoder(source: ComponentSource, dtype: torch.dtype) -> tuple[Network, Network]:
    """The encoder and the decoder of an autoencoder."""
    config = component_loading.read_config(AutoencoderKL, source)
    loaded = (AutoencoderKL, source, config)
    encoder, decoder = describe_encoder(config, dtype), describe_decoder(config, dtype)
    return (
        _of_model("vae encoder", "autoencoder", encoder, loaded, dtype),
        _of_model("vae decoder", "autoencoder", decoder, loaded, dtype),
    )


def text_encoder(name: str, source: ComponentSource, dtype: torch.dtype) -> Network:
    """A text encoder; see TEXT_ENCODERS for names."""
    kind = TEXT_ENCODERS[name]
    config = component_loading.read_config(kind, source)
    projects = issubclass(kind, CLIPTextModelWithProjection)
    graph = describe_text_encoder(name, config, dtype, projects=projects)
    return _of_model(name, "text_encoders", graph, (kind, source, config), dtype)


def controlnet(
    name: str, path: Path, unet_config: Mapping[str, Any], dtype: torch.dtype
) -> Network:
    """The ControlNet in a directory or file, for a denoiser of that configuration."""
    files = controlnet_loading.list_files(path)
    own = diffusers_layout.read_object(path / "config.json") if path.is_dir() else {}
    return Network(
        name=f"ControlNet {name}",
        component="controlnets",
        dtype=dtype,
        graph=describe_controlnet(unet_config, dtype),
        weights=files,
        settings={"unet": unet_config, "own": own},
        size=safetensors_header.estimate_bytes(files, dtype),
        load=partial(controlnet_loading.load, path, unet_config, device=_CPU, dtype=dtype),
    )


def _of_model(
    name: str,
    component: ComponentName,
    graph: Graph,
    loaded: tuple[type[torch.nn.Module], ComponentSource, Mapping[str, Any]],
    dtype: torch.dtype,
) -> Network:
    """A network whose class, source and configuration are `loaded`."""
    kind, source, config = loaded
    base = source.base if isinstance(source, MergedComponent) else source
    prefix = base.prefix if isinstance(base, SingleFileComponent) else ""
    return Network(
        name=name,
        component=component,
        graph=graph,
        dtype=dtype,
        weights=weight_files(base),
        loras=(source.lora,) if isinstance(source, MergedComponent) else (),
        settings={"prefix": prefix, **config},
        size=safetensors_header.estimate_bytes(weight_files(base), dtype, prefix=prefix),
        load=partial(component_loading.load, kind, source, dtype, _CPU),
        create_empty=partial(_create_empty, kind, config),
    )


def _create_empty(kind: type[torch.nn.Module], config: Mapping[str, Any]) -> torch.nn.Module:
    with LOAD_LOCK:
        return component_loading.create_empty(kind, config)
