"""Finds the files of a TangoFlux model, and reads what they say of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from atelier_engines.errors import ModelMissingError
from atelier_engines.local.weights import digests, safetensors_header, sources
from atelier_engines.tangoflux.config import TangoFluxConfig
from atelier_engines.tangoflux.facts import MAX_LATENTS

_CONFIG = "config.json"
_WEIGHTS = "tangoflux.safetensors"
_AUTOENCODER = "vae.safetensors"
_MODEL_FILES = (_CONFIG, _WEIGHTS, _AUTOENCODER, "*.md")
_HEAD_WIDTH = 128
"""What Flux's rotary embedding divides."""
_TEXT_FILES = ("config.json", "tokenizer*.json", "special_tokens_map.json", "spiece.model")


class NetworkConfig(BaseModel, frozen=True):
    """The content of `config.json`; the defaults are those of the published model."""

    num_layers: int = Field(default=6, ge=1)
    num_single_layers: int = Field(default=18, ge=1)
    in_channels: int = Field(default=64, ge=1)
    attention_head_dim: int = Field(default=_HEAD_WIDTH, ge=_HEAD_WIDTH, le=_HEAD_WIDTH)
    joint_attention_dim: int = Field(default=1024, ge=1)
    num_attention_heads: int = Field(default=8, ge=1)
    audio_seq_len: int = Field(default=MAX_LATENTS, ge=1)
    max_duration: int = Field(default=30, ge=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TangoFluxFiles:
    """The files of one model."""

    folder: Path
    """Has them all but those of the text encoder."""
    network: NetworkConfig
    """What the denoiser is made of."""
    text_encoder: Path
    """Directory with the configuration and the tokenizer of the text encoder."""

    @property
    def denoiser(self) -> Path:
        """Denoiser, text encoder and what is between them."""
        return self.folder / _WEIGHTS

    @property
    def autoencoder(self) -> Path:
        """The autoencoder's weights."""
        return self.folder / _AUTOENCODER

    @property
    def weights(self) -> tuple[Path, ...]:
        """All files of weights."""
        return (self.denoiser, self.autoencoder)

    def digest(self) -> str:
        """SHA-256 over the weights; takes as long as reading them."""
        return digests.digest_folder(self.folder, self.weights)


def find_files(config: TangoFluxConfig) -> TangoFluxFiles:
    """The files that a configuration names, downloaded where that is needed and allowed.

    Raises:
        ModelMissingError: one is absent or broken.
    """
    folder = sources.resolve_folder(config.model, _MODEL_FILES, download=config.download)
    text_encoder = sources.resolve_folder(
        config.text_encoder, _TEXT_FILES, download=config.download
    )
    for path in (folder / _WEIGHTS, folder / _AUTOENCODER, text_encoder / _CONFIG):
        if not path.is_file():
            raise ModelMissingError(f"there is no file {path}")
    for path in (folder / _WEIGHTS, folder / _AUTOENCODER):
        safetensors_header.read(path)
    network = _read_network(folder / _CONFIG)
    return TangoFluxFiles(folder=folder, network=network, text_encoder=text_encoder)


def _read_network(path: Path) -> NetworkConfig:
    """The denoiser's configuration.

    Raises:
        ModelMissingError: the file is absent or broken.
    """
    try:
        return NetworkConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelMissingError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ModelMissingError(f"{path} is not usable: {where} {first['msg']}") from error
