"""Resolves the names of weights in a configuration: a path, or a reference to the Hugging Face hub.

A reference to the hub is `owner/name`, or `owner/name/path/to/one.safetensors`; `@` and a branch,
tag or commit may follow the first two parts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atelier_engines.errors import ModelMissingError
from atelier_engines.local.errors import first_line

_HUB_REFERENCE = re.compile(
    r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(@(?P<revision>[\w.-]+))?"
    r"(/(?P<file>[\w./ -]+\.safetensors))?"
)
PICKLE_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack", ".h5")
SAFETENSORS_SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubReference:
    """A repository on the Hugging Face hub, or one file in it."""

    repository: str
    """The id: owner/name."""
    revision: str | None
    """Branch, tag or commit; None for the main branch."""
    file: str | None
    """Path of one file in the repository; None for the whole repository."""


def parse_hub_reference(name: str) -> HubReference | None:
    """What `name` refers to on the hub; None if it has another form, or is a path that exists."""
    found = _HUB_REFERENCE.fullmatch(name)
    if found is None or Path(name).expanduser().exists():
        return None
    return HubReference(
        repository=found["repository"], revision=found["revision"], file=found["file"]
    )


def resolve_component(name: str, subfolder: str, *, download: bool) -> Path:
    """The weights of one component: a directory with its config.json, or one file.

    Args:
        name: as configured.
        subfolder: the name of the component's directory in a whole model.
        download: whether what is not in the local cache may be downloaded.

    Raises:
        ModelMissingError: there are none; the message says where they were looked for.
    """
    path = Path(name).expanduser()
    hub = parse_hub_reference(name)
    if path.exists():
        return _enter(path, subfolder) if path.is_dir() else require_safetensors(path)
    if hub is None:
        raise ModelMissingError(f"there is no directory {path} and no such file")
    if hub.file is not None:
        return download_file(hub, hub.file, download=download)
    wanted = ("config.json", "diffusion_pytorch_model*.safetensors")
    patterns = [*wanted, *(f"{subfolder}/{pattern}" for pattern in wanted)]
    return _enter(download_folder(hub, patterns, download=download), subfolder)


def resolve_folder(name: str, patterns: Sequence[str], *, download: bool) -> Path:
    """A directory with everything in it.

    Args:
        name: as configured.
        patterns: which of its files are needed, if it is on the hub.
        download: whether what is not in the local cache may be downloaded.

    Raises:
        ModelMissingError: there is none; the message says where it was looked for.
    """
    path = Path(name).expanduser()
    hub = parse_hub_reference(name)
    if path.is_dir():
        return path
    if hub is None or hub.file is not None:
        raise ModelMissingError(f"there is no directory {path}")
    return download_folder(hub, patterns, download=download)


def require_safetensors(path: Path) -> Path:
    """The same path, if it names a file that cannot run code when it is loaded.

    Raises:
        ModelMissingError: it is not a safetensors file.
    """
    if path.suffix == SAFETENSORS_SUFFIX:
        return path
    if path.suffix in PICKLE_SUFFIXES:
        raise refuse_pickle(path)
    raise ModelMissingError(
        f"{path} is not a model: a model in one file is a {SAFETENSORS_SUFFIX} file"
    )


def refuse_pickle(path: Path) -> ModelMissingError:
    """The error that says why a pickle is not loaded."""
    return ModelMissingError(
        f"{path} is refused: loading such a file may run code that it contains; "
        "convert the model to safetensors"
    )


def download_file(hub: HubReference, file: str, *, download: bool) -> Path:
    """One file of a repository, from the local cache or the hub.

    Raises:
        ModelMissingError: it is not there, or cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download  # noqa: PLC0415  (only the hub needs it)

    try:
        path = hf_hub_download(
            hub.repository, file, revision=hub.revision, local_files_only=not download
        )
    except Exception as error:  # the hub's client raises many kinds
        raise explain_missing(hub, error, download=download) from error
    return Path(path)


def download_folder(hub: HubReference, patterns: Sequence[str], *, download: bool) -> Path:
    """The files of a repository that match a pattern, from the local cache or the hub.

    Raises:
        ModelMissingError: they are not there, or cannot be downloaded.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415  (only the hub needs it)

    try:
        folder = snapshot_download(
            hub.repository,
            revision=hub.revision,
            allow_patterns=list(patterns),
            local_files_only=not download,
        )
    except Exception as error:  # the hub's client raises many kinds
        raise explain_missing(hub, error, download=download) from error
    return Path(folder)


def explain_missing(hub: HubReference, error: Exception, *, download: bool) -> ModelMissingError:
    """The error that says where a repository was looked for and why it was not found."""
    where = "on the hub" if download else "in the local cache, and download is off"
    return ModelMissingError(
        f"there is no directory {hub.repository}, and nothing of that name with safetensors "
        f"weights was found {where}: {first_line(error)}"
    )


def _enter(path: Path, subfolder: str) -> Path:
    return path / subfolder if (path / subfolder).is_dir() else path
