"""Everything that a diffusion engine's configuration names, for those who look after it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.weights import digests, headers, model, sources
from atelier_engines.errors import EngineUnavailableError, ModelMissingError
from atelier_engines.weights import Weights, WeightsEntry

_MAP_MAKER = ("*.json", "*.safetensors")
"""What a model that computes maps is made of, on the hub."""

_SHA256 = re.compile("[0-9a-f]{64}")

ResultT = TypeVar("ResultT")
Locate = Callable[[DiffusionConfig], Path]


def entries(config: DiffusionConfig) -> Sequence[WeightsEntry]:
    """The model first, then what stands beside it."""
    return [
        WeightsEntry(key="model", source=config.model, find=partial(_find_model, config)),
        *_beside(config),
    ]


def _beside(config: DiffusionConfig) -> Sequence[WeightsEntry]:
    """ControlNets, models that compute maps, LoRAs, and the autoencoder of previews."""
    named: list[tuple[str, str, Locate]] = [
        (f"controlnets.{kind.value}", name, partial(sources.locate_network, name, "controlnet"))
        for kind, name in config.controlnets.items()
    ]
    named += [
        (f"preprocessors.{kind}", name, partial(sources.locate_folder, name, _MAP_MAKER))
        for kind, name in config.preprocessors.model_dump(exclude_none=True).items()
    ]
    named += [
        (f"loras.{lora}", name, partial(sources.locate_lora, name))
        for lora, name in config.loras.items()
    ]
    if config.preview_model is not None:
        locate = partial(sources.locate_network, config.preview_model, "vae")
        named.append(("preview_model", config.preview_model, locate))
    return [
        WeightsEntry(key=key, source=name, find=partial(_find_beside, config, locate))
        for key, name, locate in named
    ]


def _find_model(config: DiffusionConfig, download: bool) -> Weights:  # noqa: FBT001 (see Entry)
    found = _with_packages(model.find, config.model_copy(update={"download": download}))
    return Weights(
        files=found.weights,
        family=found.family,
        digest=found.digest,
        verify=partial(_verify_model, found, config.digest),
    )


def _find_beside(
    config: DiffusionConfig,
    locate: Locate,
    download: bool,  # noqa: FBT001 (see Entry)
) -> Weights:
    path = _with_packages(locate, config.model_copy(update={"download": download}))
    files = tuple(sorted(path.rglob(f"*{sources.SAFE}"))) if path.is_dir() else (path,)
    if not files:
        raise ModelMissingError(f"there are no {sources.SAFE} weights in {path}")
    digest = (
        partial(digests.of_folder, path, files) if path.is_dir() else partial(digests.of_file, path)
    )
    return Weights(files=files, digest=digest, verify=partial(_verify_files, files))


def _verify_model(found: model.ModelFiles, pin: str | None) -> None:
    _verify_files(found.weights)
    digest = found.digest()
    if pin not in (None, digest):
        raise ModelMissingError(f"the digest is {digest} and not {pin}, which is configured")


def _verify_files(files: Sequence[Path]) -> None:
    """Headers and lengths of all files, and the digests of those whose digest is their name.

    Source: huggingface_hub, "Understand caching": a large file lies under its SHA-256 in `blobs`,
    and its own name is a link there.
    """
    for path in files:
        headers.read(path)
        blob = path.resolve()
        if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name):
            digest = digests.of_file(blob)
            if digest != blob.name:
                raise ModelMissingError(
                    f"{path} has the digest {digest} and not the {blob.name} that the hub has; "
                    f"delete {blob} and download it again"
                )


def _with_packages(find: Callable[[DiffusionConfig], ResultT], config: DiffusionConfig) -> ResultT:
    try:
        return find(config)
    except ImportError as error:
        raise EngineUnavailableError(
            f"a package is missing: {error}; install atelier-engines[local]"
        ) from error
