"""Lists the weights of an audio engine, for `atelier models`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from atelier_engines.audio_diffusion.config import AudioModelConfig
from atelier_engines.audio_diffusion.info import AudioModelInfo
from atelier_engines.errors import EngineUnavailableError, ModelMissingError
from atelier_engines.local.weights.verification import verify_files
from atelier_engines.weights import Weights, WeightsEntry

ConfigT = TypeVar("ConfigT", bound=AudioModelConfig)


class FoundModel(Protocol):
    """A model whose files are on this machine."""

    @property
    def weights(self) -> tuple[Path, ...]:
        """All files of weights."""

    def digest(self) -> str:
        """SHA-256 over the weights; takes as long as reading them."""


def list_model(
    config: ConfigT, source: str, info: AudioModelInfo, find: Callable[[ConfigT], FoundModel]
) -> Sequence[WeightsEntry]:
    """The model that `source` names, found by `find`; nothing is downloaded before its licence is accepted."""
    return [WeightsEntry(key="model", source=source, find=partial(_find, config, info, find))]


def _find(
    config: ConfigT,
    info: AudioModelInfo,
    find: Callable[[ConfigT], FoundModel],
    download: bool,  # noqa: FBT001 (see WeightsEntry)
) -> Weights:
    if download and not config.accept_license:
        raise EngineUnavailableError(
            f"the weights have a licence: {info.model.license}; set accept_license: true if you accept it"
        )
    found = find(config.model_copy(update={"download": download}))
    return Weights(
        files=found.weights,
        family=info.model.family,
        notes=f"licence: {info.model.license}",
        digest=found.digest,
        verify=partial(_verify, config, found),
    )


def _verify(config: AudioModelConfig, found: FoundModel) -> None:
    verify_files(found.weights)
    digest = found.digest()
    if config.digest not in (None, digest):
        raise ModelMissingError(
            f"the digest is {digest} and not {config.digest}, which is configured"
        )
