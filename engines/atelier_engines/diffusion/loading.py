"""Loads a model: from a configuration to a painter that is ready."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from typing import TypeVar

import torch
import transformers

from atelier_engines.capabilities import Model, Reproducibility
from atelier_engines.diffusion import assembly, capabilities, previews, schedulers
from atelier_engines.diffusion.capabilities import Facts
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.controls import config_controls as controls
from atelier_engines.diffusion.controls import controlnet_loading as control_networks
from atelier_engines.diffusion.controls.preprocessing import ControlPreprocessor
from atelier_engines.diffusion.families import sd, sdxl
from atelier_engines.diffusion.families.base import Family
from atelier_engines.diffusion.memory import measuring
from atelier_engines.diffusion.memory.fitting import Fitting
from atelier_engines.diffusion.memory.holdings import Holdings
from atelier_engines.diffusion.pipeline import Pipeline, Variant
from atelier_engines.diffusion.presets import Wishes, wishes
from atelier_engines.diffusion.previews import Previewer
from atelier_engines.diffusion.weights import model_card
from atelier_engines.diffusion.weights.model import ModelFiles, find
from atelier_engines.diffusion.weights.model_card import ModelCard
from atelier_engines.errors import EngineUnavailableError, ModelMissingError
from atelier_engines.event import Event
from atelier_engines.local import cpu, errors
from atelier_engines.task import ImageTask
from atelier_engines.upscaling import registry

ValueT = TypeVar("ValueT")


def load(config: DiffusionConfig) -> Pipeline:
    """A painter whose model is on its device and has made a first picture.

    Raises:
        ModelMissingError: the model is absent, incomplete, broken, or of another kind.
        EngineUnavailableError: the device or a package is absent.
        OutOfMemoryError: the model is too large for the device.
    """
    device = _device(config.device)
    torch.set_num_threads(cpu.threads(config.threads))
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    holdings = Holdings(config, device)
    with (
        errors.translate_loading(config.model, device),
        ThreadPoolExecutor(max_workers=1) as aside,
        holdings.until_failure(),
    ):
        model = find(config)
        digest = aside.submit(model.digest)
        beside = aside.submit(_controlnet_digests, config)
        advice = model_card.read(model.source) if model.source.is_dir() else ModelCard()
        wished = wishes(config)
        assembled = assembly.assemble(
            config, model, holdings=holdings, precision=_precision(config, device)
        )
        variants = _variants(model, assembled.families, wished)
        chosen = variants.get(wished.steps) or next(iter(variants.values()))
        facts = _facts(config, advice, chosen, _expected(digest.result(), config))
        enlarging = registry.load(config, device=str(device), precision=config.precision)
        painter = Pipeline(
            family=chosen.family,
            scheduler=chosen.scheduler,
            variants={steps: made for steps, made in variants.items() if steps is not None},
            previewer=_previewer(config, advice, chosen.family),
            facts=replace(
                facts, versions={**beside.result(), **enlarging.versions, **facts.versions}
            ),
            fitting=_fitting(config, chosen.family),
            holdings=holdings,
            profile=config.profile,
            loras=assembled.adapters,
            upscalers=enlarging,
            control_preprocessor=ControlPreprocessor(config, device)
            if controls.networks(config)
            else None,
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
    return assembly.PRECISIONS[config.precision]


def _expected(digest: str, config: DiffusionConfig) -> str:
    """The digest, if it is the configured one.

    Raises:
        ModelMissingError: it is another.
    """
    if config.digest not in (None, digest):
        raise ModelMissingError(
            f"the weights of {config.model} have the digest {digest} and not the configured "
            f"{config.digest}; get the ones that were meant, or change `digest`"
        )
    return digest


def _variants(
    model: ModelFiles, families: Mapping[int | None, Family], wished: Wishes
) -> Mapping[int | None, Variant]:
    """The networks and their scheduler by numbers of steps; None is for any number."""
    changes: dict[str, object] = {}
    if wished.spacing is not None:
        changes["timestep_spacing"] = wished.spacing

    def variant(steps: int | None, family: Family) -> Variant:
        other = wished.predictions.get(steps) if steps is not None else None
        told = {**changes, **({"prediction_type": other} if other else {})}
        return Variant(family=family, scheduler=assembly.scheduler(model, told))

    return {steps: variant(steps, family) for steps, family in families.items()}


def _controlnet_digests(config: DiffusionConfig) -> Mapping[str, str]:
    """For receipts, which name everything that a picture can be repeated with."""
    found = control_networks.resolve_paths(config)
    return {f"controlnet {name}": control_networks.digest(path) for name, path in found.items()}


def _previewer(config: DiffusionConfig, advice: ModelCard, family: Family) -> Previewer:
    known = sdxl if family.name == sdxl.NAME else sd
    return previews.build_previewer(
        config,
        factors=advice.preview_factors or known.PREVIEW_FACTORS,
        bias=advice.preview_bias or known.PREVIEW_BIAS,
        device=family.runtime.device,
        dtype=family.runtime.dtype,
    )


def _fitting(config: DiffusionConfig, family: Family) -> Fitting:
    return Fitting(
        footprint=measuring.footprint(family),
        cell_pixels=family.layout.cell_pixels,
        max_side=config.max_side,
        max_pixels=config.max_pixels,
    )


def _facts(config: DiffusionConfig, advice: ModelCard, chosen: Variant, digest: str) -> Facts:
    """The configuration wins over the model's maker, who wins over the family."""
    family, wished = chosen.family, wishes(config)
    side = family.layout.sample_pixels
    width, height = advice.default_size or (side, side)
    on_cpu = family.runtime.device.type == "cpu"
    usual = capabilities.GUIDANCE if family.name == sdxl.NAME else capabilities.SD_GUIDANCE
    ceiling = _first(wished.max_guidance, capabilities.MAX_GUIDANCE)
    return Facts(
        model=Model(name=capabilities.model_name(config), family=family.name, digest=digest),
        steps=_first(wished.steps, advice.default_steps, capabilities.STEPS),
        step_choices=wished.choices,
        guidance=min(_first(wished.guidance, advice.default_guidance, usual), ceiling),
        max_guidance=ceiling,
        width=_first(config.width, width),
        height=_first(config.height, height),
        scheduler=_first(wished.scheduler, schedulers.find_name(chosen.scheduler), "euler"),
        reproducibility=Reproducibility.BIT_EXACT if on_cpu else Reproducibility.SAME_ENGINE,
        versions={name: version(name) for name in ("torch", "diffusers", "transformers")},
    )


def _first(*values: ValueT | None) -> ValueT:
    """The first value that is said."""
    return next(value for value in values if value is not None)


def _warm_up(painter: Pipeline) -> None:
    """Paint the smallest picture: shows that the parts fit, and pays for what the first one costs.

    Raises:
        EngineError: see Painter.paint.
    """
    smallest = ImageTask(
        prompt="",
        width=capabilities.MIN_SIDE,
        height=capabilities.MIN_SIDE,
        seeds=(0,),
        steps=min(painter.variants, default=1),
        guidance=2.0,
    )
    painter.generate(smallest, _unheard)


def _unheard(event: Event) -> None:
    """Nobody watches a warm-up."""
