"""Puts a model together: from its files to a family whose components are on a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTokenizer

from atelier_engines.capabilities import IntegerRange
from atelier_engines.diffusion import compilation, number_formats, onnx_loader, tensorrt_loader
from atelier_engines.diffusion.component_loader import TEXT_ENCODERS, ComponentLoader
from atelier_engines.diffusion.component_loading import read_config
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.controls import controlnet_loading
from atelier_engines.diffusion.embeddings.catalog import resolve_files
from atelier_engines.diffusion.embeddings.loader import EmbeddingLoader
from atelier_engines.diffusion.families import sd, sdxl
from atelier_engines.diffusion.families.family import ArchitectureSpec, Family
from atelier_engines.diffusion.loras import config_loras
from atelier_engines.diffusion.loras.adapters import LoraSwitch, build_switch
from atelier_engines.diffusion.loras.catalog import LoraCatalog
from atelier_engines.diffusion.prompts.encoder import EmbeddingCache, PromptEncoder
from atelier_engines.diffusion.runtimes.base import ControlNet, Runtime, TextEncoder
from atelier_engines.diffusion.runtimes.compiled_blocks import CompiledBlocks
from atelier_engines.diffusion.runtimes_config import (
    LIBRARY_NAMES,
    ComponentName,
    ComponentRuntimes,
    RuntimeName,
)
from atelier_engines.diffusion.torch_loader import TorchLoader
from atelier_engines.diffusion.weights.model_files import (
    Architecture,
    ComponentSource,
    ModelFiles,
)
from atelier_engines.diffusion.weights.single_file import FamilyName
from atelier_engines.local.components import EngineComponents
from atelier_engines.task import ResourceProfile

_LAYERS: Mapping[Architecture, int | None] = {"sd": sd.LAYER, "sdxl": sdxl.LAYER}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedComponents:
    """A model whose components are loaded."""

    families: Mapping[int | None, Family]
    """The model by numbers of steps if it has variants, else under None."""
    loras: LoraSwitch | None
    """Switches its LoRAs; None if none are configured, or the runtimes support none."""
    embeddings: EmbeddingLoader
    """Its textual inversion embeddings, and those that its LoRAs bring along."""
    blocks: CompiledBlocks
    """Its compiled blocks, if any are."""
    runtimes: ComponentRuntimes
    """What runs its components."""
    runtime_fallbacks: Mapping[ComponentName, str]
    """Why components are not run as configured, for those that are not."""


def assemble(
    config: DiffusionConfig,
    model: ModelFiles,
    *,
    components: EngineComponents,
    precision: torch.dtype,
) -> LoadedComponents:
    """The model, its ControlNets and LoRAs, ready to run.

    Raises:
        ModelMissingError: a component is incomplete, or does not fit the others.
        OutOfMemoryError: it is too large for the device; nothing was loaded.
    """
    sources: dict[int | None, ComponentSource] = dict(model.variants.items())
    if not sources:
        sources[None] = model.components["unet"]
    architectures = {steps: _read_architecture(model, unet) for steps, unet in sources.items()}
    loaders = _create_loaders(config, model, components, precision)
    vae = loaders.autoencoder.plan_autoencoder(model.components["vae"])
    encoders = [
        loaders.text_encoders.plan_text_encoder(name, model.components[name])
        for name in TEXT_ENCODERS
        if name in model.components
    ]
    unets = {steps: loaders.denoiser.plan_denoiser(source) for steps, source in sources.items()}
    planned = (vae, *encoders, *unets.values())
    components.require_memory([spec for plan in planned for spec in plan.specs])
    autoencoder = vae.acquire()
    text_encoders = tuple(plan.acquire() for plan in encoders)
    denoisers = {steps: plan.acquire() for steps, plan in unets.items()}
    controlnets = _load_controlnets(
        config, loaders.controlnets, components, next(iter(sources.values()))
    )
    prompts = _create_prompt_encoder(config, model, text_encoders)
    families: dict[int | None, Family] = {}
    for steps, denoiser in denoisers.items():
        runtime = Runtime(
            text_encoders=text_encoders,
            denoiser=denoiser,
            autoencoder=autoencoder,
            controlnets=controlnets,
            device=components.device,
            dtype=precision,
        )
        families[steps] = _create_family(model, runtime, prompts, architectures[steps])
    catalog = LoraCatalog(config)
    switch = _create_lora_switch(config, catalog, [one.runtime for one in families.values()])
    embeddings = EmbeddingLoader(
        resolve_files(config),
        {} if switch is None else {name: catalog.file(name) for name in catalog.names},
        [encoder.width for encoder in text_encoders],
    )
    return LoadedComponents(
        families=families,
        loras=switch,
        embeddings=embeddings,
        blocks=loaders.blocks,
        runtimes=loaders.runtimes,
        runtime_fallbacks=loaders.fallbacks,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaders:
    """What loads each component, as `runtime` in the configuration says, or torch where there is no build."""

    text_encoders: ComponentLoader
    denoiser: ComponentLoader
    controlnets: ComponentLoader
    autoencoder: ComponentLoader
    blocks: CompiledBlocks
    runtimes: ComponentRuntimes
    fallbacks: Mapping[ComponentName, str]


def _create_loaders(
    config: DiffusionConfig,
    model: ModelFiles,
    components: EngineComponents,
    precision: torch.dtype,
) -> _Loaders:
    blocks = compilation.create_blocks(config)
    by_name: dict[RuntimeName, ComponentLoader] = {
        "torch": _create_torch_loader(config, model, components, precision, blocks)
    }
    fallbacks: dict[ComponentName, str] = {}
    if "onnx" in config.runtimes.names:
        by_name["onnx"] = loader = onnx_loader.create(config, model, components)
        fallbacks |= loader.builds.missing
    for name in LIBRARY_NAMES:
        if name in config.runtimes.names:
            made, missing = tensorrt_loader.create(
                config, model, components, name, by_name["torch"]
            )
            fallbacks |= missing
            if made is not None:
                by_name[name] = made
    runtimes = config.runtimes.with_torch_for(fallbacks)
    return _Loaders(
        text_encoders=by_name[runtimes.text_encoders],
        denoiser=by_name[runtimes.denoiser],
        controlnets=by_name[runtimes.controlnets],
        autoencoder=by_name[runtimes.autoencoder],
        blocks=blocks,
        runtimes=runtimes,
        fallbacks=fallbacks,
    )


def _create_torch_loader(
    config: DiffusionConfig,
    model: ModelFiles,
    components: EngineComponents,
    precision: torch.dtype,
    blocks: CompiledBlocks,
) -> TorchLoader:
    on_card = components.device.type == "cuda"
    return TorchLoader(
        components=components,
        dtype=precision,
        vae_dtype=number_formats.choose_vae_dtype(config, model, precision),
        # Convolutions on CUDA are faster so; on a CPU their last bits would change.
        channels_last=config.channels_last
        if config.channels_last is not None
        else on_card and config.profile is ResourceProfile.SPEED,
        blocks=blocks if config.compile else None,
        changed_by_loras=bool(config_loras.names(config)),
    )


def _read_architecture(model: ModelFiles, unet: ComponentSource) -> ArchitectureSpec:
    """The architecture by the configuration files, which is the same whatever runs the components."""

    def read_text_encoder(name: str) -> Mapping[str, Any]:
        return read_config(TEXT_ENCODERS[name], model.components[name])

    found = _match_components(model, unet, read_text_encoder)
    layers = min(
        read_text_encoder(name)["num_hidden_layers"]
        for name in TEXT_ENCODERS
        if name in model.components
    )
    return replace(found, clip_skip=_find_clip_layers(model.family, layers))


def _find_clip_layers(family: FamilyName, layers: int) -> IntegerRange:
    """The layers of text encoders with so many that can be used, counted from the end of the original.

    The makers of Stable Diffusion 2 left out its last layer, which diffusers' configuration lacks therefore; XL
    uses the one before the last, without the norm that follows.
    """
    match family:
        case "sd15":
            return IntegerRange(min=1, max=layers, default=1)
        case "sd21":
            return IntegerRange(min=2, max=layers + 1, default=2)
        case "sdxl":
            return IntegerRange(min=1, max=layers, default=2)


def _match_components(
    model: ModelFiles, unet: ComponentSource, read_text_encoder: Callable[[str], Mapping[str, Any]]
) -> ArchitectureSpec:
    unet_config = read_config(UNet2DConditionModel, unet)
    vae_config = {**read_config(AutoencoderKL, model.components["vae"]), **model.vae_overrides}
    match model.architecture:
        case "sd":
            return sd.read_architecture(
                unet=unet_config,
                vae=vae_config,
                text_encoder=read_text_encoder("text_encoder"),
            )
        case "sdxl":
            return sdxl.read_architecture(
                unet=unet_config,
                vae=vae_config,
                text_encoder_2=read_text_encoder("text_encoder_2"),
                force_zeros_for_empty_prompt=model.force_zeros_for_empty_prompt,
            )


def _create_family(
    model: ModelFiles, runtime: Runtime, prompts: PromptEncoder, architecture: ArchitectureSpec
) -> Family:
    match model.architecture:
        case "sd":
            return sd.Sd(
                name=model.family, runtime=runtime, prompts=prompts, architecture=architecture
            )
        case "sdxl":
            return sdxl.Sdxl(runtime=runtime, prompts=prompts, architecture=architecture)


def _load_controlnets(
    config: DiffusionConfig,
    loader: ComponentLoader,
    components: EngineComponents,
    unet: ComponentSource,
) -> Mapping[str, ControlNet]:
    """All that are configured, by name; they have to fit the denoiser."""
    paths = controlnet_loading.resolve_paths(config)
    if not paths:
        return {}
    unet_config = read_config(UNet2DConditionModel, unet)
    planned = {
        name: loader.plan_controlnet(name, path, unet_config) for name, path in paths.items()
    }
    components.require_memory([spec for plan in planned.values() for spec in plan.specs])
    return {name: plan.acquire() for name, plan in planned.items()}


def _create_lora_switch(
    config: DiffusionConfig, catalog: LoraCatalog, runtimes: Sequence[Runtime]
) -> LoraSwitch | None:
    """The switch of the LoRAs in all denoisers and in the text encoders, which they share."""
    if not catalog.names or not all(runtime.supports_loras for runtime in runtimes):
        return None
    denoisers = [runtime.denoiser.lora_target for runtime in runtimes]
    encoders = [encoder.lora_target for encoder in runtimes[0].text_encoders]
    return build_switch(
        catalog,
        denoisers=[target for target in denoisers if target is not None],
        text_encoders=[target for target in encoders if target is not None],
        max_loaded=config.max_loaded_loras,
    )


def _create_prompt_encoder(
    config: DiffusionConfig, model: ModelFiles, text_encoders: Sequence[TextEncoder]
) -> PromptEncoder:
    tokenizers: list[CLIPTokenizer] = [
        CLIPTokenizer.from_pretrained(folder, local_files_only=True) for folder in model.tokenizers
    ]
    return PromptEncoder(
        text_encoders=text_encoders,
        tokenizers=tokenizers,
        layer=_LAYERS[model.architecture],
        prompt_syntax=config.prompt_syntax,
        cache=EmbeddingCache(config.prompt_cache_bytes),
    )
