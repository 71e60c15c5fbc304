"""Loads a model: from a configuration to a pipeline that is ready."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from typing import TypeVar

import torch
import transformers

from atelier_engines.capabilities import Model, Reproducibility
from atelier_engines.diffusion import (
    assembly,
    capabilities,
    compilation,
    model_scheduler,
    previews,
    runtime_choice,
    schedulers,
)
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.controls import config_controls, controlnet_loading
from atelier_engines.diffusion.controls.preprocessing import ControlPreprocessor
from atelier_engines.diffusion.families import sd, sdxl
from atelier_engines.diffusion.families.family import Family
from atelier_engines.diffusion.memory.estimator import MemoryEstimator
from atelier_engines.diffusion.memory.measure import measure_footprint
from atelier_engines.diffusion.model_info import MAX_GUIDANCE, MIN_SIDE, ModelInfo
from atelier_engines.diffusion.pipeline import Pipeline
from atelier_engines.diffusion.presets import SamplingDefaults, resolve_defaults
from atelier_engines.diffusion.previews import Previewer
from atelier_engines.diffusion.runtimes.tensorrt import library
from atelier_engines.diffusion.runtimes_config import LIBRARY_NAMES, ComponentRuntimes
from atelier_engines.diffusion.variant import Variant
from atelier_engines.diffusion.weights import model_card
from atelier_engines.diffusion.weights.model_card import ModelCard
from atelier_engines.diffusion.weights.model_files import ModelFiles, find_model_files
from atelier_engines.errors import InvalidTaskError, ModelMissingError
from atelier_engines.event import Event
from atelier_engines.local import cpu, devices, errors
from atelier_engines.local.components import EngineComponents
from atelier_engines.local.memory import free_memory
from atelier_engines.local.step_pipeline import run_alone
from atelier_engines.task import ImageTask, ResourceProfile
from atelier_engines.upscaling import registry

ValueT = TypeVar("ValueT")

_PACKAGES = ("torch", "diffusers", "transformers")
_ONNX_PACKAGES = (*_PACKAGES, "onnxruntime")
_FEWEST_STEPS = (1, 4)
"""Numbers of steps to warm up with; some models' own schedulers have too few time steps for one."""


def load(config: DiffusionConfig) -> Pipeline:
    """A pipeline whose model is on its device and has generated a first image.

    Raises:
        ModelMissingError: the model is absent, incomplete, broken, or of another kind.
        EngineUnavailableError: the device or a package is absent.
        OutOfMemoryError: the model is too large for the device.
    """
    device = devices.resolve_device(config.device)
    config = runtime_choice.decide(config, device)
    torch.set_num_threads(cpu.thread_count())
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers'
    components = EngineComponents(
        device,
        memory_budget=config.memory_budget,
        keep_loaded=config.keep_loaded,
        save_memory=config.profile is ResourceProfile.MEMORY,
    )
    with (
        errors.translate_loading(config.model, device),
        ThreadPoolExecutor(max_workers=1) as background,
        components.release_on_failure(),
    ):
        model = find_model_files(config)
        digest = background.submit(model.digest)
        controlnet_digests = background.submit(_digest_controlnets, config)
        card = model_card.read(model.source) if model.source.is_dir() else ModelCard()
        defaults = resolve_defaults(config)
        loaded = assembly.assemble(
            config,
            model,
            components=components,
            precision=devices.resolve_dtype(config.precision, device),
        )
        variants = _create_variants(model, loaded.families, defaults)
        chosen = variants.get(defaults.steps) or next(iter(variants.values()))
        checked = _require_digest(digest.result(), config)
        info = _collect_info(config, card, chosen, checked, loaded.runtimes)
        upscalers = registry.load(config, device=str(device), precision=config.precision)
        pipeline = Pipeline(
            family=chosen.family,
            scheduler=chosen.scheduler,
            variants={steps: made for steps, made in variants.items() if steps is not None},
            previewer=_create_previewer(config, card, chosen.family),
            info=_add_extras(info, loaded, {**controlnet_digests.result(), **upscalers.versions}),
            memory=_create_estimator(config, chosen.family),
            components=components,
            blocks=loaded.blocks,
            profile=config.profile,
            mask_mode=config.mask_mode,
            loras=loaded.loras,
            embeddings=loaded.embeddings,
            upscalers=upscalers,
            control_preprocessor=ControlPreprocessor(config, device)
            if config_controls.networks(config)
            else None,
        )
        _warm_up(pipeline, config)
    free_memory()  # of what only loading needed
    return pipeline


def _add_extras(
    info: ModelInfo, loaded: assembly.LoadedComponents, versions: Mapping[str, str]
) -> ModelInfo:
    """With what LoRAs bring along, the versions of what is beside the model, and runtimes that stand in."""
    return replace(
        info,
        runtime_fallbacks=dict(loaded.runtime_fallbacks.items()),
        lora_embeddings=loaded.embeddings.bundled,
        lora_trigger_words={} if loaded.loras is None else loaded.loras.trigger_words,
        versions={**versions, **info.versions},
    )


def _require_digest(digest: str, config: DiffusionConfig) -> str:
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


def _create_variants(
    model: ModelFiles, families: Mapping[int | None, Family], defaults: SamplingDefaults
) -> Mapping[int | None, Variant]:
    """The models and their schedulers by numbers of steps; None is for any number."""

    def create(steps: int | None, family: Family) -> Variant:
        overrides: dict[str, object] = {}
        if defaults.timestep_spacing is not None:
            overrides["timestep_spacing"] = defaults.timestep_spacing
        if steps is not None and steps in defaults.prediction_types:
            overrides["prediction_type"] = defaults.prediction_types[steps]
        scheduler = model_scheduler.load_scheduler(
            model.source,
            model.sampling.scheduler,
            architecture=model.architecture,
            replaced=defaults.scheduler is not None,
            changes=overrides,
        )
        return Variant(family=family, scheduler=scheduler)

    return {steps: create(steps, family) for steps, family in families.items()}


def _digest_controlnets(config: DiffusionConfig) -> Mapping[str, str]:
    """Digests for receipts, which name everything that an image can be reproduced with."""
    found = controlnet_loading.resolve_paths(config)
    return {f"controlnet {name}": controlnet_loading.digest(path) for name, path in found.items()}


def _create_previewer(config: DiffusionConfig, card: ModelCard, family: Family) -> Previewer:
    known = sdxl if family.name == sdxl.NAME else sd
    return previews.build_previewer(
        config,
        factors=card.preview_factors or known.PREVIEW_FACTORS,
        bias=card.preview_bias or known.PREVIEW_BIAS,
        device=family.runtime.device,
        dtype=family.runtime.dtype,
    )


def _create_estimator(config: DiffusionConfig, family: Family) -> MemoryEstimator:
    return MemoryEstimator(
        footprint=measure_footprint(family),
        vae_scale_factor=family.architecture.vae_scale_factor,
        max_side=config.max_side,
        max_pixels=config.max_pixels,
    )


def _collect_info(
    config: DiffusionConfig,
    card: ModelCard,
    chosen: Variant,
    digest: str,
    runtimes: ComponentRuntimes,
) -> ModelInfo:
    """The configuration takes precedence over the model's card, and that over the family."""
    family, defaults = chosen.family, resolve_defaults(config)
    offered = schedulers.list_names(chosen.scheduler)
    side = family.architecture.sample_pixels
    width, height = card.default_size or (side, side)
    on_cpu = family.runtime.device.type == "cpu"
    on_onnx = "onnx" in runtimes.names
    usual = capabilities.GUIDANCE if family.name == sdxl.NAME else capabilities.SD_GUIDANCE
    max_guidance = _first(defaults.max_guidance, MAX_GUIDANCE)
    return ModelInfo(
        model=Model(name=capabilities.model_name(config), family=family.name, digest=digest),
        steps=_first(defaults.steps, card.default_steps, capabilities.STEPS),
        step_choices=defaults.step_choices,
        guidance=min(_first(defaults.guidance, card.default_guidance, usual), max_guidance),
        max_guidance=max_guidance,
        width=_first(config.width, width),
        height=_first(config.height, height),
        native_side=capabilities.native_side(config, card.native_side, max(width, height)),
        clip_skip=family.architecture.clip_skip,
        schedulers=_order_schedulers(config, offered, defaults.scheduler),
        supports_loras=family.runtime.supports_loras,
        vocabulary=frozenset(card.vocabulary.split()),
        reproducibility=Reproducibility.BIT_EXACT
        if on_cpu and not on_onnx
        else Reproducibility.SAME_ENGINE,
        versions=_list_versions(runtimes),
        runtimes=dict(runtimes.by_component.items()),
    )


def _list_versions(runtimes: ComponentRuntimes) -> Mapping[str, str]:
    """Of what runs the components."""
    packages = _ONNX_PACKAGES if "onnx" in runtimes.names else _PACKAGES
    libraries = (name for name in LIBRARY_NAMES if name in runtimes.names)
    return {
        **{name: version(name) for name in packages},
        **{name: library.get_version(name) for name in libraries},
    }


def _order_schedulers(
    config: DiffusionConfig, offered: tuple[str, ...], default: str | None
) -> tuple[str, ...]:
    """The schedulers of a model, the default of its configuration first.

    Raises:
        ModelMissingError: the model does not support that one.
    """
    if default is None:
        return offered
    if default not in offered:
        raise ModelMissingError(
            f"{config.model} does not support the configured scheduler {default}; it supports "
            f"{', '.join(offered)}"
        )
    return (default, *(name for name in offered if name != default))


def _first(*values: ValueT | None) -> ValueT:
    """The first value that is not None."""
    return next(value for value in values if value is not None)


def _warm_up(pipeline: Pipeline, config: DiffusionConfig) -> None:
    """Compile, and generate the smallest image: proves that the components fit, and initializes the device.

    Raises:
        EngineError: see Pipeline.start.
        Exception: whatever the compiler raises.
    """
    if config.compile:
        variants = [variant.family for variant in pipeline.variants.values()]
        for family in variants or [pipeline.family]:
            compilation.compile_shapes(family, pipeline.blocks, config, pipeline.info)
    *few, enough = sorted(pipeline.variants)[:1] or _FEWEST_STEPS
    for steps in few:
        with suppress(InvalidTaskError):
            run_alone(pipeline, _smallest_task(steps), _ignore_event)
            return
    run_alone(pipeline, _smallest_task(enough), _ignore_event)


def _smallest_task(steps: int) -> ImageTask:
    return ImageTask(
        prompt="", width=MIN_SIDE, height=MIN_SIDE, seeds=(0,), steps=steps, guidance=2.0
    )


def _ignore_event(event: Event) -> None:
    """Drop an event; nobody follows the warm-up's task."""
