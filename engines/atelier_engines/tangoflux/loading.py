"""Loads TangoFlux: from a configuration to a pipeline that is ready."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from transformers import T5Config, T5EncoderModel

from atelier_engines.audio_diffusion import module_loading, networks
from atelier_engines.audio_diffusion.info import AudioModelInfo
from atelier_engines.audio_diffusion.networks import AudioNetworks
from atelier_engines.audio_diffusion.oobleck import OobleckCodec, describe_decoder
from atelier_engines.audio_diffusion.pipeline import AudioPipeline
from atelier_engines.audio_diffusion.t5_text import T5TextEncoder, load_tokenizer
from atelier_engines.local import errors
from atelier_engines.local.components import ComponentSpec, EngineComponents
from atelier_engines.local.torch_module import TorchModule
from atelier_engines.local.weights import safetensors_header
from atelier_engines.tangoflux import network
from atelier_engines.tangoflux.config import TangoFluxConfig
from atelier_engines.tangoflux.denoiser_graph import describe_denoiser
from atelier_engines.tangoflux.facts import SAMPLE_RATE, describe_unloaded
from atelier_engines.tangoflux.model import TangoFluxModel
from atelier_engines.tangoflux.published_files import TangoFluxFiles, find_files

_MAX_TOKENS = 512
"""Most tokens that flan-t5 reads; TangoFlux was trained with 64."""


def load(config: TangoFluxConfig) -> AudioPipeline:
    """A pipeline whose model is on its device and has made a first clip.

    Raises:
        ModelMissingError: the model is absent, incomplete, broken, or of another kind.
        EngineUnavailableError: the device is absent.
        OutOfMemoryError: the model is too large for the device.
    """
    components = module_loading.open_components(config)
    device = components.device
    with (
        errors.translate_loading(config.model, device),
        ThreadPoolExecutor(max_workers=1) as background,
        components.release_on_failure(),
    ):
        files = find_files(config)
        digest = background.submit(files.digest)
        model = _assemble(config, files, components)
        info = replace(
            model.info,
            model=replace(
                model.info.model,
                digest=module_loading.require_digest(digest.result(), config, config.model),
            ),
        )
        return module_loading.warm_up(replace(model, info=info))


def find_networks(config: TangoFluxConfig) -> AudioNetworks:
    """The networks that a configuration has built, on the CPU.

    Raises:
        ModelMissingError: a file is absent or broken.
    """
    device = torch.device("cpu")
    with errors.translate_loading(config.model, device):
        return _Parts(find_files(config), device, torch.float32).networks()


def _assemble(
    config: TangoFluxConfig, files: TangoFluxFiles, components: EngineComponents
) -> TangoFluxModel:
    dtype = module_loading.choose_dtype(config, components.device)
    parts = _Parts(files, components.device, dtype)
    text_encoder, conditioner = parts.text_encoder(), parts.conditioner()
    tokenizer = load_tokenizer(files.text_encoder)
    loaded = networks.load(
        config,
        components,
        parts.networks(),
        (text_encoder, conditioner),
        max_latents=files.network.audio_seq_len,
    )
    return TangoFluxModel(
        info=_describe(config, files, loaded.codec, components.device),
        components=components,
        text=T5TextEncoder(
            tokenizer,
            components.acquire(text_encoder),
            components,
            max_tokens=min(_MAX_TOKENS, tokenizer.model_max_length),
        ),
        conditioner=components.acquire(conditioner),
        denoiser=loaded.denoise,
        decoder=loaded.codec,
        dtype=dtype,
        latent_width=files.network.in_channels,
    )


def _describe(
    config: TangoFluxConfig, files: TangoFluxFiles, decoder: OobleckCodec, device: torch.device
) -> AudioModelInfo:
    return replace(
        describe_unloaded(config),
        max_seconds=float(files.network.max_duration),
        audible_seconds=decoder.codec.max_latents * decoder.codec.hop / SAMPLE_RATE,
        reproducibility=module_loading.describe_reproducibility(config, device),
        versions=module_loading.list_versions(config),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Where the weights of a component are."""

    path: Path
    """The file."""
    prefixes: tuple[str, ...] = ("",)
    """How their names begin there."""
    strip: bool = True
    """Whether the module's names are without the prefix."""
    tied: tuple[str, ...] = ()
    """Weights that are another's, which the file leaves out."""


class _Parts:
    """The specifications of a model's components."""

    def __init__(self, files: TangoFluxFiles, device: torch.device, dtype: torch.dtype) -> None:
        self._files = files
        self._device = device
        self._dtype = dtype
        self._text_config = T5Config.from_pretrained(files.text_encoder, local_files_only=True)

    def text_encoder(self) -> ComponentSpec[TorchModule[T5EncoderModel]]:
        """The text encoder."""
        return self._specify(
            "text_encoder",
            lambda: T5EncoderModel(self._text_config),
            _Source(
                path=self._files.denoiser,
                prefixes=(network.TEXT_ENCODER,),
                tied=network.TEXT_TIED,
            ),
            module_loading.choose_text_dtype(self._dtype),
        )

    def conditioner(self) -> ComponentSpec[TorchModule[network.TangoFluxConditioner]]:
        """What is between; in float32, since it is small."""
        return self._specify(
            "conditioner",
            lambda: network.TangoFluxConditioner(
                text_width=self._text_config.d_model,
                joint_width=self._files.network.joint_attention_dim,
                max_seconds=self._files.network.max_duration,
            ),
            _Source(path=self._files.denoiser, prefixes=network.CONDITIONER, strip=False),
            torch.float32,
        )

    def networks(self) -> AudioNetworks:
        """Denoiser and autoencoder."""
        shape = self._read_shape()
        return AudioNetworks(
            denoiser=self._denoiser(),
            denoiser_graph=describe_denoiser(
                self._files.network, self._text_config.d_model, self._dtype
            ),
            denoiser_settings=self._files.network.model_dump(),
            autoencoder=self._autoencoder(shape),
            decoder_graph=describe_decoder(shape.latent_width),
            autoencoder_settings=asdict(shape),
        )

    def _denoiser(self) -> ComponentSpec[TorchModule[FluxTransformer2DModel]]:
        """The denoiser, which runs at every step."""
        return self._specify(
            "transformer",
            lambda: network.create_denoiser(self._files.network, self._text_config.d_model),
            _Source(path=self._files.denoiser, prefixes=(network.DENOISER,)),
            self._dtype,
            runs_every_step=True,
        )

    def _read_shape(self) -> network.OobleckShape:
        found = safetensors_header.read(self._files.autoencoder).items()
        return network.read_shape({name: one.shape for name, one in found})

    def _autoencoder(
        self, shape: network.OobleckShape
    ) -> ComponentSpec[TorchModule[AutoencoderOobleck]]:
        """The autoencoder, always in float32."""
        source = _Source(path=self._files.autoencoder)
        return self._specify(
            "vae", lambda: network.create_autoencoder(shape), source, torch.float32
        )

    def _specify(
        self,
        name: str,
        create: Callable[[], module_loading.ModuleT],
        source: _Source,
        dtype: torch.dtype,
        *,
        runs_every_step: bool = False,
    ) -> ComponentSpec[TorchModule[module_loading.ModuleT]]:
        def read() -> module_loading.ModuleT:
            return module_loading.build_module(
                create,
                module_loading.read_prefixed(source.path, source.prefixes, strip=source.strip),
                where=source.path,
                dtype=dtype,
                device=self._device,
                tied=source.tied,
            )

        sizes = (
            safetensors_header.estimate_bytes((source.path,), dtype, prefix=prefix)
            for prefix in source.prefixes
        )
        return ComponentSpec(
            name=name,
            kind=name,
            files=(source.path,),
            size=sum(sizes),
            dtype=dtype,
            form="tangoflux",
            load=partial(TorchModule, read),
            runs_every_step=runs_every_step,
        )
