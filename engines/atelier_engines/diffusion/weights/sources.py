"""Finds weights by the names in a configuration: of a package, a path, or the Hugging Face hub.

A hub name is `owner/name`, or `owner/name/path/to/one.safetensors`; `@` and a branch, tag or commit
may follow the first two parts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.weights_config import TINY
from atelier_engines.diffusion.wording import first_line
from atelier_engines.errors import EngineUnavailableError, ModelMissingError

_HUB_NAME = re.compile(
    r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(@(?P<revision>[\w.-]+))?"
    r"(/(?P<file>[\w./ -]+\.safetensors))?"
)
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack", ".h5")
SAFE = ".safetensors"
LORA_FILE = "pytorch_lora_weights.safetensors"
"""What diffusers calls a LoRA that lies in a directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubName:
    """Something on the Hugging Face hub."""

    repository: str
    """owner/name."""
    revision: str | None
    """Branch, tag or commit; None for the main branch."""
    file: str | None
    """Path of one file in it; None for all that belongs together."""


def hub_name(name: str) -> HubName | None:
    """What `name` means on the hub; None where it cannot mean anything there, or is a path here."""
    found = _HUB_NAME.fullmatch(name)
    if found is None or Path(name).expanduser().exists():
        return None
    return HubName(repository=found["repository"], revision=found["revision"], file=found["file"])


def locate(config: DiffusionConfig) -> Path:
    """The model: a directory in diffusers' layout or one file, downloaded if need be and allowed.

    Raises:
        ModelMissingError: there is none, or it is a pickle; the text says where it was looked for.
        EngineUnavailableError: the package of the small model is not installed.
    """
    if config.model == TINY:
        return _tiny()
    path = Path(config.model).expanduser()
    hub = hub_name(config.model)
    if path.is_dir():
        return path
    if path.exists():
        return safe(path)
    if hub is None:
        raise ModelMissingError(f"there is no model directory {path} and no such file")
    if hub.file is not None:
        return _file_from_hub(hub, hub.file, config)
    return _model_from_hub(hub, config)


def locate_network(name: str, folder: str, config: DiffusionConfig) -> Path:
    """Weights of one network: a directory with its config.json, or one file.

    Args:
        name: as configured.
        folder: what the network's directory is called in a whole model.
        config: says whether the network of machines may be used.

    Raises:
        ModelMissingError: there are none; the text says where they were looked for.
    """
    path = Path(name).expanduser()
    hub = hub_name(name)
    if path.exists():
        return _inner(path, folder) if path.is_dir() else safe(path)
    if hub is None:
        raise ModelMissingError(f"there is no directory {path} and no such file")
    if hub.file is not None:
        return _file_from_hub(hub, hub.file, config)
    wanted = ("config.json", "diffusion_pytorch_model*.safetensors")
    patterns = [*wanted, *(f"{folder}/{pattern}" for pattern in wanted)]
    return _inner(_snapshot(hub, patterns, config), folder)


def locate_base(name: str, config: DiffusionConfig) -> Path:
    """A directory in diffusers' layout of which only texts are needed: tokenizers, configurations.

    Raises:
        ModelMissingError: there is none; the text says where it was looked for.
    """
    path = Path(name).expanduser()
    hub = hub_name(name)
    if path.is_dir():
        return path
    if hub is None or hub.file is not None:
        raise ModelMissingError(f"base: there is no directory {path}")
    return _snapshot(hub, ["*.json", "*/*.json", "*/*.txt"], config)


def locate_folder(name: str, patterns: Sequence[str], config: DiffusionConfig) -> Path:
    """A directory that is taken as it is.

    Args:
        name: as configured.
        patterns: which files of it are needed, where it is on the hub.
        config: says whether the network of machines may be used.

    Raises:
        ModelMissingError: there is none; the text says where it was looked for.
    """
    path = Path(name).expanduser()
    hub = hub_name(name)
    if path.is_dir():
        return path
    if hub is None or hub.file is not None:
        raise ModelMissingError(f"there is no directory {path}")
    return _snapshot(hub, list(patterns), config)


def locate_lora(name: str, config: DiffusionConfig) -> Path:
    """The file of a LoRA.

    Raises:
        ModelMissingError: there is none, or it is a pickle; the text says where it was looked for.
    """
    path = Path(name).expanduser()
    hub = hub_name(name)
    if path.is_file():
        return safe(path)
    if hub is None and not path.is_dir():
        raise ModelMissingError(f"there is no LoRA {path}")
    if hub is not None and hub.file is not None:
        return _file_from_hub(hub, hub.file, config)
    file = (path if hub is None else _snapshot(hub, [LORA_FILE], config)) / LORA_FILE
    if not file.is_file():
        raise ModelMissingError(f"there is no {LORA_FILE} in {name}; name the file itself")
    return file


def safe(path: Path) -> Path:
    """The same path, if it names a file that cannot run code when it is loaded.

    Raises:
        ModelMissingError: it is no safetensors file.
    """
    if path.suffix == SAFE:
        return path
    if path.suffix in PICKLES:
        raise ModelMissingError(
            f"{path} is refused: loading such a file may run code that it contains; "
            "convert the model to safetensors"
        )
    raise ModelMissingError(f"{path} is no model: a single file ends in {SAFE}")


def _inner(path: Path, folder: str) -> Path:
    return path / folder if (path / folder).is_dir() else path


def _tiny() -> Path:
    try:
        from atelier_tiny import WEIGHTS  # noqa: PLC0415  (only this model needs the package)
    except ImportError as error:
        raise EngineUnavailableError(
            "the model atelier-tiny comes with the package atelier-tiny, which is not installed; "
            "install atelier-engines[local], or configure another model"
        ) from error
    return Path(WEIGHTS)


def _model_from_hub(hub: HubName, config: DiffusionConfig) -> Path:
    """Weights as safetensors only; whatever is in the cache is not downloaded again."""
    from diffusers import DiffusionPipeline  # noqa: PLC0415  (slow, and only the hub needs it)

    try:
        folder = DiffusionPipeline.download(
            hub.repository,
            revision=hub.revision or config.revision,
            variant=config.variant,
            use_safetensors=True,
            local_files_only=not config.download,
        )
    except Exception as error:  # the hub's client raises many kinds
        raise _not_had(hub, config, error) from error
    return Path(folder)


def _file_from_hub(hub: HubName, file: str, config: DiffusionConfig) -> Path:
    from huggingface_hub import hf_hub_download  # noqa: PLC0415  (only the hub needs it)

    try:
        path = hf_hub_download(
            hub.repository, file, revision=hub.revision, local_files_only=not config.download
        )
    except Exception as error:  # the hub's client raises many kinds
        raise _not_had(hub, config, error) from error
    return Path(path)


def _snapshot(hub: HubName, patterns: list[str], config: DiffusionConfig) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415  (only the hub needs it)

    try:
        folder = snapshot_download(
            hub.repository,
            revision=hub.revision,
            allow_patterns=patterns,
            local_files_only=not config.download,
        )
    except Exception as error:  # the hub's client raises many kinds
        raise _not_had(hub, config, error) from error
    return Path(folder)


def _not_had(hub: HubName, config: DiffusionConfig, error: Exception) -> ModelMissingError:
    where = "on the hub" if config.download else "in the local cache, and download is off"
    return ModelMissingError(
        f"there is no directory {hub.repository}, and nothing of that name with safetensors "
        f"weights could be had {where}: {first_line(error)}"
    )
