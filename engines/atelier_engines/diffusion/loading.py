"""Loads a model: from a configuration to a painter that is ready."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar, cast

import diffusers
import torch
import transformers
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from atelier_engines.capabilities import Model, Reproducibility
from atelier_engines.diffusion import capabilities, card, cores, faults, files, schedulers, sources
from atelier_engines.diffusion.capabilities import Facts
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.families import sdxl
from atelier_engines.diffusion.painting import Painter
from atelier_engines.diffusion.previews import Previewer
from atelier_engines.diffusion.runtimes.torch import TorchRuntime
from atelier_engines.diffusion.schedulers import Scheduler
from atelier_engines.errors import EngineUnavailableError, ModelMissingError
from atelier_engines.event import Event
from atelier_engines.task import ImageTask

_WEIGHTS = {
    **dict.fromkeys(sdxl.TEXT_ENCODERS, "model"),
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
"""How the names of each network's weight files begin."""

_PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

ValueT = TypeVar("ValueT")
NetworkT = TypeVar("NetworkT", bound=torch.nn.Module)


def load(config: DiffusionConfig) -> Painter:
    """A painter whose model is on its device and has made a first picture.

    Raises:
        ModelMissingError: the model is absent, incomplete, broken, or of another kind.
        EngineUnavailableError: the device or a package is absent.
        OutOfMemoryError: the model is too large for the device.
    """
    device = _device(config.device)
    torch.set_num_threads(cores.threads(config.threads))
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    folder = sources.locate(config)
    with faults.of_loading(str(folder), device), ThreadPoolExecutor(max_workers=1) as aside:
        parts = _parts(folder, config.variant)
        weights = [path for part in parts.values() for path in part.weights]
        digest = aside.submit(files.digest, folder, weights)
        advice = card.read(folder)
        scheduler = _scheduler(folder)
        family = _family(folder, parts, device, _precision(config, device))
        painter = Painter(
            family=family,
            scheduler=scheduler,
            previewer=Previewer(
                factors=advice.preview_factors or sdxl.PREVIEW_FACTORS,
                bias=advice.preview_bias or sdxl.PREVIEW_BIAS,
                max_side=config.preview_pixels,
            ),
            facts=_facts(config, advice, family, scheduler, digest.result()),
        )
        _warm_up(painter)
    return painter


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EngineUnavailableError(
            f"device {name} is not there: torch sees {torch.cuda.device_count()} CUDA devices"
        )
    return device


def _precision(config: DiffusionConfig, device: torch.device) -> torch.dtype:
    """float16 on CUDA, since SDXL's weights are published in it and bfloat16 is 8 times coarser."""
    if config.precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return _PRECISIONS[config.precision]


def _parts(folder: Path, variant: str | None) -> Mapping[str, files.ComponentFiles]:
    kind = files.pipeline_name(folder)
    if kind != sdxl.PIPELINE:
        raise ModelMissingError(f"{folder} is a {kind or 'nameless model'}, not {sdxl.PIPELINE}")
    parts = {name: files.component(folder / name, stem, variant) for name, stem in _WEIGHTS.items()}
    if variant is not None and all(part.variant != variant for part in parts.values()):
        raise ModelMissingError(f"{folder} has no weights of the variant {variant}")
    return parts


def _scheduler(folder: Path) -> Scheduler:
    name = files.read_object(folder / "scheduler" / "scheduler_config.json").get("_class_name")
    kind = _scheduler_class(name)
    if kind is None:
        raise ModelMissingError(f"the scheduler of {folder} is {name!r}, which diffusers lacks")
    return cast("Scheduler", kind.from_pretrained(folder / "scheduler", local_files_only=True))


def _scheduler_class(name: object) -> type[SchedulerMixin] | None:
    found = getattr(diffusers, name, None) if isinstance(name, str) else None
    return found if isinstance(found, type) and issubclass(found, SchedulerMixin) else None


def _family(
    folder: Path,
    parts: Mapping[str, files.ComponentFiles],
    device: torch.device,
    precision: torch.dtype,
) -> sdxl.Sdxl:
    vae = _network(AutoencoderKL, parts["vae"], _vae_precision(parts["vae"], precision), device)
    unet = _network(UNet2DConditionModel, parts["unet"], precision, device)
    first, second = (parts[name] for name in sdxl.TEXT_ENCODERS)
    runtime = TorchRuntime(
        text_encoders=(
            _network(CLIPTextModel, first, precision, device),
            _network(CLIPTextModelWithProjection, second, precision, device),
        ),
        unet=unet,
        vae=vae,
        device=device,
        dtype=precision,
    )
    index = files.read_object(folder / files.INDEX)
    return sdxl.Sdxl(
        runtime=runtime,
        tokenizers=(_tokenizer(folder / "tokenizer"), _tokenizer(folder / "tokenizer_2")),
        layout=sdxl.layout(
            unet=unet.config,
            vae=vae.config,
            projection=runtime.text_encoders[-1].config.projection_dim,
            zeros_for_empty=bool(index.get("force_zeros_for_empty_prompt", True)),
        ),
    )


def _vae_precision(part: files.ComponentFiles, precision: torch.dtype) -> torch.dtype:
    """float32 instead of float16 where the autoencoder's makers say that it would overflow."""
    upcast = files.read_object(part.folder / "config.json").get("force_upcast", True)
    return torch.float32 if upcast and precision == torch.float16 else precision


def _tokenizer(folder: Path) -> CLIPTokenizer:
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer


def _network(
    kind: type[NetworkT],
    part: files.ComponentFiles,
    precision: torch.dtype,
    device: torch.device,
) -> NetworkT:
    """One network on its device, in evaluation mode.

    Raises:
        ModelMissingError: weights are missing in the file; they would be random numbers.
    """
    network, report = kind.from_pretrained(  # type: ignore[attr-defined]
        part.folder,
        dtype=precision,
        variant=part.variant,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    lost = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if lost:
        raise ModelMissingError(
            f"the weights in {part.folder} are incomplete: {len(lost)} are missing or of "
            f"another shape, {lost[0]} first"
        )
    made: NetworkT = network.to(device).eval().requires_grad_(requires_grad=False)
    return made


def _facts(
    config: DiffusionConfig,
    advice: card.ModelCard,
    family: sdxl.Sdxl,
    scheduler: Scheduler,
    digest: str,
) -> Facts:
    """The configuration wins over the model's maker, who wins over the family."""
    side = family.layout.sample_pixels
    width, height = advice.default_size or (side, side)
    on_cpu = family.runtime.device.type == "cpu"
    return Facts(
        model=Model(name=capabilities.model_name(config), family=sdxl.NAME, digest=digest),
        steps=_first(config.steps, advice.default_steps, capabilities.STEPS),
        guidance=_first(config.guidance, advice.default_guidance, capabilities.GUIDANCE),
        width=_first(config.width, width),
        height=_first(config.height, height),
        scheduler=_first(config.scheduler, schedulers.name_of(scheduler), "euler"),
        reproducibility=Reproducibility.BIT_EXACT if on_cpu else Reproducibility.SAME_ENGINE,
        versions={name: version(name) for name in ("torch", "diffusers", "transformers")},
    )


def _first(*values: ValueT | None) -> ValueT:
    """The first value that is said."""
    return next(value for value in values if value is not None)


def _warm_up(painter: Painter) -> None:
    """Paint the smallest picture: shows that the parts fit, and pays for what the first one costs.

    Raises:
        EngineError: see Painter.paint.
    """
    smallest = ImageTask(
        prompt="",
        width=capabilities.MIN_SIDE,
        height=capabilities.MIN_SIDE,
        seeds=(0,),
        steps=1,
        guidance=2.0,
    )
    painter.paint(smallest, _unheard)


def _unheard(event: Event) -> None:
    """Nobody watches a warm-up."""
