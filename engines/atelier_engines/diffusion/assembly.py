"""Puts a model together: from its files to a family of networks on a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import diffusers
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from atelier_engines.diffusion import component_loading
from atelier_engines.diffusion.config import DiffusionConfig, Precision
from atelier_engines.diffusion.controls import controlnet_loading as control_networks
from atelier_engines.diffusion.families import sd, sdxl
from atelier_engines.diffusion.families.base import Family
from atelier_engines.diffusion.loras.adapters import LoraSwitch, build_switch
from atelier_engines.diffusion.loras.catalog import LoraCatalog
from atelier_engines.diffusion.memory.holdings import Holdings, Want
from atelier_engines.diffusion.prompts.embedding import EmbeddingCache
from atelier_engines.diffusion.prompts.encoder import PromptEncoder
from atelier_engines.diffusion.runtimes.torch import TorchRuntime
from atelier_engines.diffusion.schedulers import Scheduler
from atelier_engines.diffusion.weights import files
from atelier_engines.diffusion.weights.model import (
    Architecture,
    FilePart,
    MergedPart,
    ModelFiles,
    Part,
    config_of,
    files_of,
)
from atelier_engines.errors import ModelMissingError
from atelier_engines.local.weights import safetensors_header

NetworkT = TypeVar("NetworkT", bound=torch.nn.Module)

PRECISIONS: Mapping[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

_TEXT_ENCODERS: Mapping[str, type[CLIPTextModel | CLIPTextModelWithProjection]] = {
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """A model that is loaded."""

    families: Mapping[int | None, Family]
    """By numbers of steps where it has variants, else under None."""
    adapters: LoraSwitch | None
    """Switches its LoRAs; None where there are none."""


def assemble(
    config: DiffusionConfig, model: ModelFiles, *, holdings: Holdings, precision: torch.dtype
) -> Assembled:
    """The model, its ControlNets and LoRAs, ready to run.

    Raises:
        ModelMissingError: a part is incomplete, or does not fit the others.
        OutOfMemoryError: it is too large for the device; nothing was loaded.
    """
    device = holdings.device
    in_vae = _of_vae(model, precision, config.vae_precision)
    wanted_vae = _wanted(AutoencoderKL, "vae", model.networks["vae"], in_vae, device)
    wanted_encoders = tuple(
        _wanted(kind, name, model.networks[name], precision, device)
        for name, kind in _TEXT_ENCODERS.items()
        if name in model.networks
    )
    parts: dict[int | None, Part] = dict(model.variants.items())
    if not parts:
        parts[None] = model.networks["unet"]
    wanted_unets = {
        steps: _wanted(UNet2DConditionModel, "unet", part, precision, device)
        for steps, part in parts.items()
    }
    holdings.check([wanted_vae, *wanted_encoders, *wanted_unets.values()])
    vae = holdings.take(wanted_vae)
    encoders = tuple(holdings.take(wanted) for wanted in wanted_encoders)
    unets = {steps: holdings.take(wanted) for steps, wanted in wanted_unets.items()}
    controlnets = _controlnets(config, next(iter(unets.values())), precision, holdings)
    tokenizers = tuple(_tokenizer(folder) for folder in model.tokenizers)
    cache = EmbeddingCache(config.prompt_cache)
    found: dict[int | None, Family] = {}
    for steps, unet in unets.items():
        runtime = TorchRuntime(
            text_encoders=encoders,
            unet=unet,
            vae=vae,
            device=device,
            dtype=precision,
            controlnets=controlnets,
            holdings=holdings,
        )
        prompts = PromptEncoder(
            runtime=runtime,
            tokenizers=tokenizers,
            layer=_LAYERS[model.architecture],
            prompt_syntax=config.prompt_syntax,
            cache=cache,
        )
        found[steps] = _MAKERS[model.architecture](model, runtime, prompts)
    return Assembled(families=found, adapters=_adapters(config, tuple(unets.values()), encoders))


def _adapters(
    config: DiffusionConfig,
    unets: Sequence[torch.nn.Module],
    encoders: Sequence[torch.nn.Module],
) -> LoraSwitch | None:
    library = LoraCatalog(config)
    if not library.names:
        return None
    return build_switch(
        library, denoisers=unets, text_encoders=encoders, max_loaded=config.max_loaded_loras
    )


def _controlnets(
    config: DiffusionConfig,
    unet: UNet2DConditionModel,
    precision: torch.dtype,
    holdings: Holdings,
) -> Mapping[str, ControlNetModel]:
    """All that are configured, by name; they have to fit the denoiser."""
    wanted: dict[str, Want[ControlNetModel]] = {}
    for name, path in control_networks.resolve_paths(config).items():
        own = control_networks.list_files(path)
        wanted[name] = Want(
            name=f"the ControlNet {name}",
            kind=ControlNetModel,
            files=own,
            size=safetensors_header.estimate_bytes(own, precision),
            dtype=precision,
            load=partial(
                control_networks.load, path, unet, device=holdings.device, dtype=precision
            ),
            denoises=True,
        )
    holdings.check(list(wanted.values()))
    return {name: holdings.take(want) for name, want in wanted.items()}


def _wanted(
    kind: type[NetworkT], name: str, part: Part, dtype: torch.dtype, device: torch.device
) -> Want[NetworkT]:
    """A network of the model, for the shelf that all engines take theirs from."""
    base = part.base if isinstance(part, MergedPart) else part
    prefix = base.prefix if isinstance(base, FilePart) else ""
    return Want(
        name=name,
        kind=kind,
        files=files_of(part),
        prefix=prefix,
        size=safetensors_header.estimate_bytes(files_of(base), dtype, prefix=prefix),
        dtype=dtype,
        load=partial(component_loading.load, kind, part, dtype, device),
        denoises=name == "unet",
        adapts=name != "vae",
    )


def _sd(model: ModelFiles, runtime: TorchRuntime, prompts: PromptEncoder) -> Family:
    return sd.Sd(
        name=model.family,
        runtime=runtime,
        prompts=prompts,
        layout=sd.layout(
            unet=runtime.unet.config,
            vae=runtime.vae.config,
            text_width=runtime.text_encoders[0].config.hidden_size,
        ),
    )


def _sdxl(model: ModelFiles, runtime: TorchRuntime, prompts: PromptEncoder) -> Family:
    return sdxl.Sdxl(
        runtime=runtime,
        prompts=prompts,
        layout=sdxl.layout(
            unet=runtime.unet.config,
            vae=runtime.vae.config,
            projection=runtime.text_encoders[-1].config.projection_dim,
            zeros_for_empty=model.zeros_for_empty,
        ),
    )


_Maker = Callable[[ModelFiles, TorchRuntime, PromptEncoder], Family]

_MAKERS: Mapping[Architecture, _Maker] = {"sd": _sd, "sdxl": _sdxl}

_LAYERS: Mapping[Architecture, int | None] = {"sd": sd.LAYER, "sdxl": sdxl.LAYER}
"""Which hidden states of the text encoders the denoiser was trained on."""


def scheduler(model: ModelFiles, changes: Mapping[str, object]) -> Scheduler:
    """The model's own scheduler, with changes to its configuration.

    Raises:
        ModelMissingError: it is absent, or none that diffusers has.
    """
    folder = model.scheduler
    name = files.read_object(folder / "scheduler_config.json").get("_class_name")
    kind = _scheduler_class(name)
    if kind is None:
        raise ModelMissingError(f"the scheduler in {folder} is {name!r}, which diffusers lacks")
    own = kind.from_pretrained(folder, local_files_only=True)
    changed = {**model.schedule, **changes}
    return cast("Scheduler", kind.from_config(own.config, **changed) if changed else own)


def _scheduler_class(name: object) -> type[SchedulerMixin] | None:
    found = getattr(diffusers, name, None) if isinstance(name, str) else None
    return found if isinstance(found, type) and issubclass(found, SchedulerMixin) else None


def _of_vae(model: ModelFiles, precision: torch.dtype, wanted: Precision) -> torch.dtype:
    """float32 instead of float16 where the autoencoder's makers say that it would overflow.

    Only SDXL's does, and only there they say so: configurations of older ones have it by default.
    """
    if wanted != "auto":
        return PRECISIONS[wanted]
    if precision != torch.float16 or model.architecture != "sdxl":
        return precision
    upcast = files.read_object(config_of(model.networks["vae"])).get("force_upcast", True)
    return torch.float32 if upcast else precision


def _tokenizer(folder: Path) -> CLIPTokenizer:
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer
