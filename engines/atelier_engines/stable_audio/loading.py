"""Loads Stable Audio Open: from a configuration to a pipeline that is ready."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck
from diffusers.models.transformers.stable_audio_transformer import StableAudioDiTModel
from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel
from transformers import T5EncoderModel

from atelier_engines.audio_diffusion import module_loading, networks
from atelier_engines.audio_diffusion.info import AudioModelInfo
from atelier_engines.audio_diffusion.model_folder import ModelFolder
from atelier_engines.audio_diffusion.networks import AudioNetworks
from atelier_engines.audio_diffusion.oobleck import OobleckCodec, describe_decoder
from atelier_engines.audio_diffusion.part_loading import read_config, specify
from atelier_engines.audio_diffusion.pipeline import AudioPipeline
from atelier_engines.audio_diffusion.t5_text import T5TextEncoder, load_tokenizer
from atelier_engines.local import errors
from atelier_engines.local.components import EngineComponents
from atelier_engines.stable_audio.config import StableAudioConfig
from atelier_engines.stable_audio.denoiser_graph import describe_denoiser
from atelier_engines.stable_audio.facts import describe_unloaded
from atelier_engines.stable_audio.model import StableAudioModel
from atelier_engines.stable_audio.model_folder import find_files, read_solver

_MAX_TOKENS = 128
"""Source: tokenizer/tokenizer_config.json of stabilityai/stable-audio-open-1.0."""


def load(config: StableAudioConfig) -> AudioPipeline:
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


def find_networks(config: StableAudioConfig) -> AudioNetworks:
    """The networks that a configuration has built, on the CPU.

    Raises:
        ModelMissingError: a file is absent or broken.
    """
    device = torch.device("cpu")
    with errors.translate_loading(config.model, device):
        return _list_networks(find_files(config), torch.float32, device)


def _list_networks(files: ModelFolder, dtype: torch.dtype, device: torch.device) -> AudioNetworks:
    denoiser = read_config(files.folder / "transformer", StableAudioDiTModel)
    autoencoder = read_config(files.folder / "vae", AutoencoderOobleck)
    return AudioNetworks(
        denoiser=specify(files, "transformer", StableAudioDiTModel, dtype, device),
        denoiser_graph=describe_denoiser(denoiser, dtype),
        denoiser_settings=denoiser,
        autoencoder=specify(files, "vae", AutoencoderOobleck, torch.float32, device),
        decoder_graph=describe_decoder(int(autoencoder["decoder_input_channels"])),
        autoencoder_settings=autoencoder,
    )


def _assemble(
    config: StableAudioConfig, files: ModelFolder, components: EngineComponents
) -> StableAudioModel:
    dtype, device = module_loading.choose_dtype(config, components.device), components.device
    text_encoder = specify(
        files, "text_encoder", T5EncoderModel, module_loading.choose_text_dtype(dtype), device
    )
    projection = specify(
        files, "projection_model", StableAudioProjectionModel, torch.float32, device
    )
    tokenizer = load_tokenizer(files.folder / "tokenizer")
    settings = read_config(files.folder / "transformer", StableAudioDiTModel)
    loaded = networks.load(
        config,
        components,
        _list_networks(files, dtype, device),
        (text_encoder, projection),
        max_latents=int(settings["sample_size"]),
    )
    return StableAudioModel(
        info=_describe(config, loaded.codec, device),
        components=components,
        text=T5TextEncoder(
            tokenizer,
            components.acquire(text_encoder),
            components,
            max_tokens=min(_MAX_TOKENS, tokenizer.model_max_length),
        ),
        projection=components.acquire(projection),
        denoiser=loaded.denoise,
        decoder=loaded.codec,
        latent_width=int(settings["in_channels"]),
        solver=read_solver(files),
        dtype=dtype,
    )


def _describe(
    config: StableAudioConfig, decoder: OobleckCodec, device: torch.device
) -> AudioModelInfo:
    seconds = decoder.codec.max_latents * decoder.codec.hop / decoder.sample_rate
    return replace(
        describe_unloaded(config),
        sample_rate=decoder.sample_rate,
        channels=decoder.channels,
        max_seconds=seconds,
        audible_seconds=seconds,
        reproducibility=module_loading.describe_reproducibility(config, device),
        versions=module_loading.list_versions(config),
    )
