"""Loads Stable Audio 3: from a configuration to a pipeline that is ready."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from diffusers.models.autoencoders.autoencoder_same import AutoencoderSAME
from diffusers.models.transformers.transformer_stable_audio3 import StableAudio3DiTModel
from diffusers.pipelines.stable_audio_3.modeling_stable_audio_3 import StableAudio3DurationEmbedder
from transformers import T5GemmaEncoderModel

from atelier_engines.audio_diffusion import module_loading
from atelier_engines.audio_diffusion.info import AudioModelInfo
from atelier_engines.audio_diffusion.model_folder import ModelFolder
from atelier_engines.audio_diffusion.part_loading import DENOISER, read_config, specify
from atelier_engines.audio_diffusion.pipeline import AudioPipeline
from atelier_engines.audio_diffusion.t5_text import T5TextEncoder, load_tokenizer
from atelier_engines.local import errors
from atelier_engines.local.components import EngineComponents
from atelier_engines.stable_audio_3.config import StableAudio3Config
from atelier_engines.stable_audio_3.facts import BASE_STEPS, STEPS, describe_unloaded
from atelier_engines.stable_audio_3.model_folder import SchedulerConfig, find_files, read_scheduler
from atelier_engines.stable_audio_3.rectified_flow import StableAudio3Model
from atelier_engines.stable_audio_3.same import SameCodec

_MAX_TOKENS = 256
"""Source: diffusers 0.42.1, StableAudio3Pipeline.encode_prompt."""


def load(config: StableAudio3Config) -> AudioPipeline:
    """A pipeline whose model is on its device and has made a first clip.

    Raises:
        ModelMissingError: the model is absent, incomplete, broken, or of another kind.
        EngineUnavailableError: the device is absent.
        OutOfMemoryError: the model is too large for the device.
    """
    components = module_loading.open_components(config)
    with (
        errors.translate_loading(config.model, components.device),
        ThreadPoolExecutor(max_workers=1) as background,
        components.release_on_failure(),
    ):
        files = find_files(config)
        digest = background.submit(files.digest)
        model = _assemble(config, files, components)
        named = replace(
            model.info.model,
            digest=module_loading.require_digest(digest.result(), config, config.model),
        )
        return module_loading.warm_up(replace(model, info=replace(model.info, model=named)))


def _assemble(
    config: StableAudio3Config, files: ModelFolder, components: EngineComponents
) -> StableAudio3Model:
    scheduler = read_scheduler(files)
    dtype, device = module_loading.choose_dtype(config, components.device), components.device
    text_type = module_loading.choose_text_dtype(dtype)
    text = specify(files, "text_encoder", T5GemmaEncoderModel, text_type, device)
    duration = specify(
        files, "duration_embedder", StableAudio3DurationEmbedder, torch.float32, device
    )
    denoiser = specify(files, DENOISER, StableAudio3DiTModel, dtype, device)
    autoencoder = specify(files, "vae", AutoencoderSAME, torch.float32, device)
    components.require_memory([text, duration, denoiser, autoencoder])
    tokenizer = load_tokenizer(files.folder / "tokenizer")
    settings = read_config(files.folder / "duration_embedder", StableAudio3DurationEmbedder)
    codec = SameCodec(components.acquire(autoencoder), max_seconds=float(settings["max_val"]))
    return StableAudio3Model(
        info=_describe(config, codec, float(settings["max_val"]), scheduler, device),
        components=components,
        text=T5TextEncoder(
            tokenizer,
            components.acquire(text),
            components,
            max_tokens=min(_MAX_TOKENS, tokenizer.model_max_length),
        ),
        duration=components.acquire(duration),
        denoiser=components.acquire(denoiser),
        autoencoder=codec,
        scheduler=scheduler,
        dtype=dtype,
    )


def _describe(
    config: StableAudio3Config,
    codec: SameCodec,
    seconds: float,
    scheduler: SchedulerConfig,
    device: torch.device,
) -> AudioModelInfo:
    return replace(
        describe_unloaded(config),
        sample_rate=codec.sample_rate,
        channels=codec.channels,
        max_seconds=seconds,
        audible_seconds=seconds,
        steps=STEPS if scheduler.stochastic_sampling else BASE_STEPS,
        reproducibility=module_loading.describe_reproducibility(config, device),
        versions=module_loading.list_versions(config),
    )
