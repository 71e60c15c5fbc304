"""Lists all weights that a diffusion engine's configuration names, for `atelier models`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.embeddings import config_embeddings
from atelier_engines.diffusion.loras import config_loras
from atelier_engines.diffusion.weights import model_files
from atelier_engines.errors import EngineUnavailableError, ModelMissingError
from atelier_engines.local.weights import digests, named_files, sources
from atelier_engines.local.weights.verification import verify_files
from atelier_engines.weights import Weights, WeightsEntry

_PREPROCESSOR_FILES = ("*.json", "*.safetensors")
"""What a preprocessor consists of, on the hub."""

ResultT = TypeVar("ResultT")


class _Resolve(Protocol):
    """Finds one file or directory."""

    def __call__(self, *, download: bool) -> Path:
        """Where it is, downloaded if need be and allowed."""


def list_weights(config: DiffusionConfig) -> Sequence[WeightsEntry]:
    """The model first, then ControlNets, preprocessors, LoRAs, embeddings and the autoencoder of previews."""
    return [
        WeightsEntry(key="model", source=config.model, find=partial(_find_model, config)),
        *_list_extras(config),
    ]


def _list_extras(config: DiffusionConfig) -> Sequence[WeightsEntry]:
    named: list[tuple[str, str, _Resolve]] = [
        (f"controlnets.{kind.value}", name, partial(sources.resolve_component, name, "controlnet"))
        for kind, name in config.controlnets.items()
    ]
    named += [
        (f"preprocessors.{kind}", name, partial(sources.resolve_folder, name, _PREPROCESSOR_FILES))
        for kind, name in config.preprocessors.model_dump(exclude_none=True).items()
    ]
    named += [
        (
            f"{key}.{name}",
            source,
            partial(named_files.resolve, name, source, kind, cache=config_loras.find_cache(config)),
        )
        for key, kind, chosen in (
            ("loras", config_loras.KIND, config.loras),
            ("embeddings", config_embeddings.KIND, config.embeddings),
        )
        for name, source in chosen.items()
    ]
    if config.preview_model is not None:
        resolve = partial(sources.resolve_component, config.preview_model, "vae")
        named.append(("preview_model", config.preview_model, resolve))
    return [
        WeightsEntry(key=key, source=name, find=partial(_find_extra, resolve))
        for key, name, resolve in named
    ]


def _find_model(config: DiffusionConfig, download: bool) -> Weights:  # noqa: FBT001 (see WeightsEntry)
    allowed = config.model_copy(update={"download": download})
    found = _with_packages(lambda: model_files.find_model_files(allowed))
    return Weights(
        files=found.weights,
        family=found.family,
        notes=", ".join((*found.sampling.reasons, _name_scheduler(found))),
        digest=found.digest,
        verify=partial(_verify_model, found, config.digest),
    )


def _name_scheduler(found: model_files.ModelFiles) -> str:
    return f"scheduler {found.sampling.scheduler.get('_class_name', 'nameless')}"


def _find_extra(resolve: _Resolve, download: bool) -> Weights:  # noqa: FBT001 (see WeightsEntry)
    path = _with_packages(lambda: resolve(download=download))
    files = (
        tuple(sorted(path.rglob(f"*{sources.SAFETENSORS_SUFFIX}"))) if path.is_dir() else (path,)
    )
    if not files:
        raise ModelMissingError(f"there are no {sources.SAFETENSORS_SUFFIX} weights in {path}")
    digest = (
        partial(digests.digest_folder, path, files)
        if path.is_dir()
        else partial(digests.digest_file, path)
    )
    return Weights(files=files, digest=digest, verify=partial(verify_files, files))


def _verify_model(found: model_files.ModelFiles, configured: str | None) -> None:
    verify_files(found.weights)
    digest = found.digest()
    if configured not in (None, digest):
        raise ModelMissingError(f"the digest is {digest} and not {configured}, which is configured")


def _with_packages(find: Callable[[], ResultT]) -> ResultT:
    try:
        return find()
    except ImportError as error:
        raise EngineUnavailableError(
            f"a package is missing: {error}; install atelier-engines[local]"
        ) from error
